"""COCO's average precision by faster-coco-eval: the figures of pycocotools in a fraction of the time, in percent."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCOeval_faster

from pretrain.console import UserError, first_few

logger = logging.getLogger(__name__)
MOST_DETECTIONS = (1, 10, 100)  # an image's best so many count; the figures of precision take the last


def evaluate_coco(
    truth: Any,
    detections: Sequence[dict[str, Any]],
    task: Literal["bbox", "segm"],
    where: str,
    image_ids: Sequence[int] | None = None,
    category_ids: Sequence[int] | None = None,
    most_detections: Sequence[int] = MOST_DETECTIONS,
    report: Callable[[str], None] = logger.info,
) -> COCOeval_faster:
    """Evaluate detections as pycocotools' COCOeval does.

    Args:
        truth: The annotations, as COCO of pycocotools.coco or of faster_coco_eval. Untouched but for "ignore" and
            "rle", which are written into its annotations.
        detections: {"image_id", "category_id", "score", "bbox": [x, y, width, height] in pixels} each, and for
            "segm" a "segmentation" as compressed RLE; untouched. There may be none: every precision is then 0.
        task: Whether boxes or masks are compared. An object's size is its "area"; a detection's that of its box, or
            of its mask.
        where: The file that `truth` was read from, for messages.
        image_ids: Images that count; None for all.
        category_ids: Categories that count; None for all.
        most_detections: Of these numbers of detections an image is the recall; the precision, of the last.
        report: Is given the table of the twelve figures, line by line, and how long it took.

    Returns:
        The evaluation: `stats`, the twelve figures as fractions, -1 where there is no such object;
        `eval["precision"]`, see `class_precision`.

    Raises:
        UserError: A detection belongs to no image of `truth`, or image ids are no whole numbers.
    """
    known = set(truth.imgs)
    unnumbered = [image for image in known if not isinstance(image, int)]
    if unnumbered:
        raise UserError(f"{where}: the image id {unnumbered[0]!r} is no whole number; number the images")
    strays = dict.fromkeys(found["image_id"] for found in detections if found["image_id"] not in known)
    if strays:
        raise UserError(
            f"{where}: holds no image {first_few(strays)}, for which there are detections ({len(strays)} such images); "
            "evaluate on the annotations of the images that were detected on"
        )
    # Where a detection has a box, its size would be the box's.
    own = [{key: value for key, value in found.items() if task == "bbox" or key != "bbox"} for found in detections]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        results = truth.loadRes(own) if own else _no_results(truth)
    evaluation = COCOeval_faster(truth, results, task, print_function=report)
    evaluation.params.maxDets = list(most_detections)
    if image_ids is not None:
        evaluation.params.imgIds = list(image_ids)
    if category_ids is not None:
        evaluation.params.catIds = list(category_ids)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def class_percent(evaluation: Any, category_id: int, threshold: float | None = None) -> float:
    """Return a category's average precision in percent, NaN where it has no object.

    Args:
        evaluation: Of `evaluate_coco`, or a COCOeval of pycocotools.
        category_id: As in the annotations.
        threshold: An IoU among 0.5, 0.55, ..., 0.95; None for the mean over all.
    """
    # (IoU threshold, recall, category by rising id, area, detections): any area is first, most detections last
    precision = evaluation.eval["precision"][:, :, list(evaluation.params.catIds).index(category_id), 0, -1]
    if threshold is not None:
        precision = precision[np.isclose(evaluation.params.iouThrs, threshold)]
    precision = precision[precision > -1]
    return 100 * float(precision.mean()) if precision.size else float("nan")


def percent(value: float) -> float:
    """Return a fraction in percent; COCO's -1, "nothing of that kind in the data", becomes NaN."""
    return 100 * float(value) if value >= 0 else float("nan")


def _no_results(truth: Any) -> Any:
    """Return what `loadRes` makes of detections, for none at all, which it cannot read."""
    results = type(truth)()
    results.dataset = {key: truth.dataset[key] for key in ("images", "categories")} | {"annotations": []}
    results.createIndex()
    return results
