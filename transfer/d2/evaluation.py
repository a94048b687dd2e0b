"""VOC and COCO evaluation with the AP50 of each class, which Detectron2 computes and then averages away."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, build_detection_test_loader
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator, inference_on_dataset
from detectron2.utils import comm
from torch import nn

from pretrain.console import progress
from pretrain.files import write_text
from transfer.coco_eval import class_percent, evaluate_coco
from transfer.d2.data import NamingMapper
from transfer.d2.voc_eval import average_precisions, read_objects
from transfer.voc_eval import THRESHOLDS


class VocEvaluator(PascalVOCDetectionEvaluator):
    """AP over ten IoU thresholds as Detectron2 reports it; for 2007 each AP is the 11-point one of the devkit.

    The figures are those of Detectron2's evaluator, to the last bit: the same detections, rounded as the devkit's
    files have them, in the same order. That one compares every detection with its image's objects anew for each
    threshold, which takes minutes where a detector finds a hundred objects an image.
    """

    def evaluate(self) -> dict[str, Any] | None:
        """Return {"bbox": {"AP", "AP50", "AP75", "AP50-<class>"}} in percent on rank 0, None elsewhere.

        Raises:
            UserError: A detection belongs to no image of the split, or an annotation cannot be read.
        """
        gathered = comm.gather(self._predictions, dst=0)
        if not comm.is_main_process():
            return None
        lines: dict[int, list[str]] = defaultdict(list)
        for predictions in gathered:
            for class_id, entries in predictions.items():
                lines[class_id].extend(entries)
        objects = read_objects(Path(self._image_set_path), self._anno_file_template)
        table = np.array([
            average_precisions(lines[class_id], objects, name, self._image_set_path, self._is_2007)
            for class_id, name in enumerate(self._class_names)
        ])  # fmt: skip
        table *= 100
        means = [column.mean() for column in table.T]
        summary = {"AP": np.mean(means), "AP50": means[0], "AP75": means[THRESHOLDS.index(75)]}
        summary |= {f"AP50-{name}": table[class_id, 0] for class_id, name in enumerate(self._class_names)}
        return {"bbox": {name: float(value) for name, value in summary.items()}}


class CocoEvaluator(COCOEvaluator):
    """Detectron2's COCO figures, evaluated by faster-coco-eval, with the AP50 of each class added."""

    def __init__(self, name: str, tasks: Sequence[Literal["bbox", "segm"]], output_dir: str, **settings: Any) -> None:
        """Read the annotations.

        Args:
            name: A registered data set.
            tasks: Whether boxes, masks or both are evaluated.
            output_dir: Gets coco_instances_results.json, the detections in COCO's form.
            settings: See Detectron2's COCOEvaluator.
        """
        super().__init__(name, tasks=tasks, output_dir=output_dir, use_fast_impl=False, **settings)

    def _eval_predictions(self, predictions: list[dict[str, Any]], img_ids: list[int] | None = None) -> None:
        """Save the detections and evaluate them: Detectron2 calls it on rank 0, with those of all ranks."""
        category_ids = {label: number for number, label in self._metadata.thing_dataset_id_to_contiguous_id.items()}
        detections = [found for prediction in predictions for found in prediction["instances"]]
        for found in detections:
            found["category_id"] = category_ids[found["category_id"]]
        write_text(Path(self._output_dir, "coco_instances_results.json"), json.dumps(detections))
        if not self._do_evaluation:
            self._logger.info("%s: no annotations to evaluate on", self._metadata.json_file)
            return
        for task in sorted(self._tasks):
            evaluation = evaluate_coco(
                self._coco_api,
                detections,
                task,
                self._metadata.json_file,
                img_ids,
                most_detections=self._max_dets_per_image,
                report=self._logger.info,
            )
            names = self._metadata.thing_classes
            results = self._derive_coco_results(evaluation, task, class_names=names)
            for label, name in enumerate(names):
                results[f"AP50-{name}"] = class_percent(evaluation, category_ids[label], 0.5)
            self._results[task] = results


def build_evaluator(cfg: CfgNode, name: str) -> VocEvaluator | CocoEvaluator:
    """Return the evaluator that belongs to the data set."""
    if MetadataCatalog.get(name).evaluator_type == "pascal_voc":
        return VocEvaluator(name)
    tasks: tuple[Literal["bbox", "segm"], ...] = ("bbox", "segm") if cfg.MODEL.MASK_ON else ("bbox",)
    return CocoEvaluator(name, tasks=tasks, output_dir=str(Path(cfg.OUTPUT_DIR, "inference")))


def evaluate(cfg: CfgNode, model: nn.Module, shown: bool = True) -> dict[str, dict[str, float]]:
    """Evaluate on the config's test set, all ranks together.

    Args:
        cfg: One data set in DATASETS.TEST.
        model: A detector; it is put back into the mode it was in.
        shown: Whether to show progress; not while another bar is on the screen.

    Returns:
        {"bbox": {"AP", "AP50", "AP75", "AP50-<class>", ...}} in percent on rank 0, empty elsewhere.
    """
    [name] = cfg.DATASETS.TEST
    loader = build_detection_test_loader(cfg, name, mapper=NamingMapper(cfg, is_train=False))
    evaluator = build_evaluator(cfg, name)
    with contextlib.ExitStack() as stack:
        advance: Callable[..., None] = lambda: None  # noqa: E731
        if shown and comm.is_main_process():
            advance = stack.enter_context(progress(f"evaluating on {name}", len(loader)))
        results: dict[str, dict[str, float]] = inference_on_dataset(model, Counted(loader, advance), evaluator) or {}
    return results


class Counted:
    """A loader that tells how far it has come."""

    def __init__(self, loader: Any, advance: Callable[..., None]) -> None:
        self._loader, self._advance = loader, advance

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            yield batch
            self._advance()
