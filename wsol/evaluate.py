"""The whole evaluation: score maps, from a network or from disk -> boxes -> MaxBoxAccV2, one image after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pretrain.console import UserError, warn
from pretrain.files import require_writable
from wsol import kernels
from wsol.counting.figures import best_index, box_figures, mask_figures
from wsol.counting.mask_tally import MaskTally
from wsol.counting.ranks import Ranks
from wsol.counting.rows import row_of
from wsol.counting.stream import Kept, Tally, count
from wsol.counting.tally import BoxTally
from wsol.draw import draw_curves
from wsol.draw.pictures import draw_pictures
from wsol.errors import IOU
from wsol.maps.cam import with_output_stride
from wsol.maps.classifiers import load_classifier, untrained_like
from wsol.maps.explain import Mapper
from wsol.maps.scoremaps import ScoreMapWriter, read_note, score_map_path
from wsol.maps.sources import FolderMaps, NetworkMaps, Source
from wsol.metadata import ImageRecord, class_names, match_classes
from wsol.metadata.val import Splits, read_splits
from wsol.report import RESULT, write_images
from wsol.report.paper import beside
from wsol.report.protocol import protocol, what
from wsol.settings import Settings, choose_device

CURVES = "curves.png"
ALONE = Ranks()


@dataclass(frozen=True)
class Job:
    """What is evaluated, whichever way the score maps come.

    Attributes:
        source: Makes the score maps.
        splits: The images.
        names: Names of the data's classes.
        predicted_names: Names of the network's classes; empty where there is no network.
        data: Root of the images, or None.
        out: Folder for what is written.
        settings: How to evaluate.
        ranks: This process among others.
        writer: Writes the score maps, or None.
        masks: Folder of the masks; None is `data`.
    """

    source: Source
    splits: Splits
    names: Sequence[str]
    predicted_names: Sequence[str]
    data: str | Path | None
    out: Path
    settings: Settings
    ranks: Ranks
    writer: ScoreMapWriter | None = None
    masks: str | Path | None = None

    def count(self, tally: Tally[Kept], records: Sequence[ImageRecord], split: str) -> list[Kept]:
        """Count the images of a split; see `wsol.counting.stream.count`."""
        threads = self.settings.workers
        pending = 4 * threads + self.settings.batch_size
        return count(self.source, records, tally, split, threads, pending, self.ranks, self.writer)


def evaluate_checkpoint(
    checkpoint: str | Path,
    data: str | Path,
    out: str | Path,
    metadata: str | Path | None = None,
    scoremaps: str | Path | None = None,
    settings: Settings | None = None,
    arch: str | None = None,
    masks: str | Path | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Evaluate a classifier on a split of CUB_200_2011, or of any set with wsolevaluation's metadata.

    Args:
        checkpoint: An exported backbone, or what else `wsol.maps.classifiers.load_classifier` takes.
        data: Root of the images.
        out: Folder for images.csv and the pictures.
        metadata: Folder of wsolevaluation's metadata; see `wsol.metadata.read_split`.
        scoremaps: Folder into which the score maps are written; None writes none.
        settings: How to evaluate.
        arch: The architecture of a checkpoint that does not say it.
        masks: Folder of the masks, where the truth is masks; None is `data`.
        ranks: This process among those of the evaluation.

    Returns:
        Plain values: the figures, the protocol, the checkpoint; see docs/wsol.md. Of several processes the first one
        has the pictures' names.

    Raises:
        UserError: Something is missing or does not fit: files, classes, the network's head.
    """
    start, settings = time.monotonic(), settings or Settings()
    if ranks.first:
        require_writable(out)  # not found out after hours
    splits = read_splits(data, metadata, settings.split, settings.threshold_from)
    records = [*splits.records, *(splits.val or [])]
    names = class_names(records, data)
    labels = max(record.label for record in records) + 1
    device = choose_device(settings.device, ranks)
    model, card = load_classifier(checkpoint, arch)
    if settings.random_weights:
        torch.manual_seed(0)
        model = untrained_like(card)
        card = replace(card, method="random weights", branch="control", sha256="")
    class_of_label, how = match_classes(names, card.classes, labels)
    mapper = Mapper(
        with_output_stride(model, settings.output_stride).to(device), settings.cam, settings.label, card.arch
    )
    made_by = {
        "checkpoint": str(checkpoint) if ":" in str(checkpoint) else Path(checkpoint).with_suffix("").name,
        "method": card.method,
        "branch": card.branch,
        "arch": card.arch,
        "sha256": card.sha256,
        "cam": settings.cam,
        "label": settings.label,
        "output_stride": settings.output_stride,
        "input_size": settings.input_size,
        "split": settings.split,
    }
    size = settings.input_size
    writer = ScoreMapWriter(scoremaps, len(records), (size, size), made_by, ranks.first) if scoremaps else None
    source = NetworkMaps(mapper, card, class_of_label, data, size, device, settings.batch_size, settings.workers)
    job = Job(source, splits, names or _numbers(labels), card.classes, data, Path(out), settings, ranks, writer, masks)
    figures = _evaluate(job)
    about_maps = protocol(splits, settings.split, settings.interval, (size, size)) | {
        "data": Path(data).resolve().name,
        "input_size": size,
        "map_size": list(source.grid),
        "output_stride": settings.output_stride,
        "cam": settings.cam,
        "cam_made_by": mapper.describe(),
        "label": f"{settings.label} class",
        "top1_loc": "true class predicted, and the box right at the threshold given in best_threshold",
    }
    about = {
        "paper": beside(card, about_maps),
        "checkpoint": {name: made_by[name] for name in ("checkpoint", "method", "branch", "arch", "sha256")},
        "classes": f"the data's {labels} classes were matched {how}",
    }
    return _whole(job, figures, about_maps, about, start)


def evaluate_scoremaps(
    scoremaps: str | Path,
    out: str | Path,
    metadata: str | Path | None = None,
    data: str | Path | None = None,
    settings: Settings | None = None,
    masks: str | Path | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Evaluate score maps that lie on disk, this program's or another's; class predictions are not known then.

    Args:
        scoremaps: Folder of `IMAGE_ID.npy`.
        out: Folder for images.csv and the pictures.
        metadata: Folder of wsolevaluation's metadata; see `wsol.metadata.read_split`.
        data: Root of the images; needed for pictures of them, and for the boxes where there are no metadata.
        masks: Folder of the masks, where the truth is masks; None is `data`.
        settings: How to evaluate; what is about the network has no meaning here.
        ranks: This process among those of the evaluation.

    Returns:
        Plain values, as of `evaluate_checkpoint`, with None for what is not known.

    Raises:
        UserError: A file is missing, or a score map is not what wsolevaluation takes.
    """
    start, settings = time.monotonic(), settings or Settings()
    if settings.draw and data is None:
        raise UserError("pictures need the images: give --data beside --draw")
    if ranks.first:
        require_writable(out)
    made_by = read_note(scoremaps)
    splits = read_splits(data, metadata, settings.split, settings.threshold_from)
    has_val = any(score_map_path(scoremaps, record.image_id).is_file() for record in splits.val or ())
    if splits.val and settings.threshold_from == "auto" and not has_val:
        splits = replace(splits, val=None, why_no_val="there are no score maps of val")
    records = [*splits.records, *(splits.val or [])]
    names = class_names(records, data)
    labels = max(record.label for record in records) + 1
    source = FolderMaps(scoremaps)
    next(source(records)).score_map()  # its shape is to be that of all, whichever process or thread reads them
    job = Job(source, splits, names or _numbers(labels), (), data, Path(out), settings, ranks, masks=masks)
    figures = _evaluate(job)
    height, width = source.shape or (0, 0)
    about_maps = protocol(splits, settings.split, settings.interval, (height, width)) | {
        "made_by": made_by or None,
        "score_map_dtypes": sorted(set(ranks.gather(sorted(source.dtypes)))),
    }
    return _whole(job, figures, about_maps, {"paper": None, "checkpoint": None}, start)


def _evaluate(job: Job) -> dict[str, Any]:
    """Count, add up over the processes, and let the first one write what is of single images."""
    if not kernels.AVAILABLE:
        warn("numba is not installed: boxes are traced by OpenCV, several times slower; pip install numba")
    return _over_masks(job) if job.splits.masks else _over_boxes(job)


def _over_boxes(job: Job) -> dict[str, Any]:
    splits, settings, classes = job.splits, job.settings, len(job.names)
    tally, val = BoxTally(settings.interval, classes), BoxTally(settings.interval, classes)
    kept = job.count(tally, splits.records, settings.split)
    if splits.val:
        job.count(val, splits.val, "val")
    if job.writer:
        job.writer.finish()
    figures = box_figures(tally, job.names, val if splits.val else None, len(job.predicted_names))
    figures["why_no_val"] = splits.why_no_val or None
    place = best_index(tally, IOU)
    rows = job.ranks.gather([row_of(measured, place, job.names, job.predicted_names) for measured in kept])
    if not job.ranks.first:
        return figures
    (job.out / RESULT).unlink(missing_ok=True)  # an earlier run's; this one's comes last, when all else is there
    write_images(job.out / "images.csv", rows)
    threshold = figures["errors"]["threshold"]
    drawn = draw_pictures(job.source, splits.records, rows, threshold, job.data, job.out, settings.draw, settings.sheet)
    return {**figures, **drawn}


def _over_masks(job: Job) -> dict[str, Any]:
    root = job.masks or job.data
    if root is None:
        raise UserError("the truth of this set is masks: give --masks DIR, or --data where they lie among the images")
    if job.settings.draw:
        raise UserError("the truth of this set is masks, and only boxes are drawn on images; leave out --draw")
    tally = MaskTally(job.settings.interval, len(job.names), root)
    job.count(tally, job.splits.records, job.settings.split)
    if job.writer:
        job.writer.finish()
    figures = mask_figures(tally, len(job.predicted_names))
    if not job.ranks.first:
        return figures
    for name in (RESULT, "images.csv"):
        (job.out / name).unlink(missing_ok=True)
    return {**figures, **draw_pictures(job.source, [], [], 0.0, None, job.out, 0, 0)}


def _whole(
    job: Job, figures: dict[str, Any], about_maps: dict[str, Any], about: dict[str, Any], start: float
) -> dict[str, Any]:
    """Put the result together, and draw its curves."""
    seconds = round(time.monotonic() - start, 1)
    result = {"what": what(job.splits), **figures, "protocol": about_maps, **about, "seconds": seconds}
    if job.ranks.first:
        draw_curves(job.out / CURVES, result)
        result["pictures"] = {"curves": CURVES, **result["pictures"]}
    return result


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]
