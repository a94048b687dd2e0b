"""The whole evaluation: exported backbone -> class activation maps -> MaxBoxAccV2, one image after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pretrain.backbones import BackboneCard, build_backbone, load_backbone
from pretrain.console import UserError, progress
from wsol.cam import features_and_logits, head_weight, score_maps, stride_one_last_stage
from wsol.draw import OverlayCollector
from wsol.images import prepare, read_ahead, read_rgb
from wsol.metadata import ImageRecord, boxes_digest, find_image, match_classes, read_classes, read_split
from wsol.scoremaps import ScoreMapWriter, read_note, read_score_map, score_map_path
from wsol.tally import Tally

WHAT = (
    "Weakly supervised localisation by class activation maps: MaxBoxAccV2 in percent, each IoU threshold at the score "
    "threshold that is best on the evaluated split itself (an oracle), beside the same metric of a centred Gaussian "
    "that does not look at the image."
)
THRESHOLD_CHOICE = "oracle: best on the evaluated split itself, one for each IoU threshold"


@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Attributes:
        split: "train", "val" or "test".
        interval: Step of the score thresholds; wsolevaluation's main.py uses 0.001.
        input_size: Height and width to which images are resized, pixels.
        stock: Keep the strides the network was trained with; otherwise the last stage runs at stride 1, as
            wsolevaluation's ResNets do.
        device: "auto", or a torch device such as "cpu" or "cuda:1".
        batch_size: Images in a forward pass.
        workers: Threads that read images.
        draw: Number of images, spread over the split, drawn with their boxes.
        random_weights: Evaluate the checkpoint's architecture with fresh random weights instead of its own: the
            control that says how much of a figure comes from the architecture and from the pictures.
    """

    split: str = "test"
    interval: float = 0.001
    input_size: int = 224
    stock: bool = False
    device: str = "auto"
    batch_size: int = 32
    workers: int = 2
    draw: int = 0
    random_weights: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.interval <= 1:
            raise UserError(f"the interval is {self.interval}; it must be above 0 and at most 1")
        for name in ("input_size", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")


def evaluate_checkpoint(
    checkpoint: str | Path,
    data: str | Path,
    out: str | Path,
    metadata: str | Path | None = None,
    scoremaps: str | Path | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Evaluate an exported backbone on a split of CUB_200_2011.

    Args:
        checkpoint: The exported backbone (.safetensors, its card beside it).
        data: Root of the CUB_200_2011 tree.
        out: Folder for the overlays.
        metadata: Folder of wsolevaluation's metadata; see `wsol.metadata.read_split`.
        scoremaps: Folder into which the score maps are written; None writes none.
        settings: How to evaluate.

    Returns:
        Plain values: the figures, the protocol, the checkpoint; see docs/wsol.md.

    Raises:
        UserError: Something is missing or does not fit: files, classes, the network's head.
    """
    start = time.monotonic()
    settings = settings or Settings()
    records, records_from = read_split(data, metadata, settings.split)
    data_classes = read_classes(data)
    _check_labels(records, len(data_classes), data)
    device = choose_device(settings.device)
    model, card = load_backbone(checkpoint)
    if settings.random_weights:
        torch.manual_seed(0)
        model = build_backbone(card.arch, len(card.classes)).eval()
        card = replace(card, method="random weights", branch="control", sha256="")
    class_of_label = match_classes(data_classes, card.classes)
    model = (model if settings.stock else stride_one_last_stage(model)).to(device)
    made_by = {
        "checkpoint": Path(checkpoint).with_suffix("").name,
        "method": card.method,
        "branch": card.branch,
        "arch": card.arch,
        "sha256": card.sha256,
        "last_stage_stride": "as trained" if settings.stock else 1,
        "input_size": settings.input_size,
        "split": settings.split,
    }
    size = (settings.input_size, settings.input_size)
    writer = ScoreMapWriter(scoremaps, len(records), size, made_by) if scoremaps is not None else None
    tally = Tally(settings.interval)
    overlays = OverlayCollector(records, settings.draw, data)
    cam_size, mismatches = _run_network(model, card, records, class_of_label, data, settings, tally, overlays, writer)
    if writer:
        writer.finish()
    figures = tally.figures()
    return {
        "what": WHAT,
        **figures,
        "protocol": {
            **_protocol(records, records_from, settings, size),
            "data": Path(data).resolve().name,
            "input_size": settings.input_size,
            "map_size": list(cam_size),
            "last_stage_stride": made_by["last_stage_stride"],
            "label": "true class",
            "top1_loc": "true class predicted, and the box right at the threshold given in best_threshold",
        },
        "checkpoint": {name: made_by[name] for name in ("checkpoint", "method", "branch", "arch", "sha256")},
        "classes": f"{len(data_classes)} of the checkpoint's {len(card.classes)} classes",
        "size_mismatches": mismatches,
        "overlays": overlays.draw(tally, Path(out) / "overlays"),
        "seconds": round(time.monotonic() - start, 1),
    }


def evaluate_scoremaps(
    scoremaps: str | Path,
    out: str | Path,
    metadata: str | Path | None = None,
    data: str | Path | None = None,
    settings: Settings | None = None,
) -> dict[str, Any]:
    """Evaluate score maps that lie on disk, this program's or another's; class predictions are not known then.

    Args:
        scoremaps: Folder of `IMAGE_ID.npy`.
        out: Folder for the overlays.
        metadata: Folder of wsolevaluation's metadata; see `wsol.metadata.read_split`.
        data: Root of the images; needed for overlays, and for the boxes where there are no metadata.
        settings: How to evaluate; input size, strides and device have no meaning here.

    Returns:
        Plain values, as of `evaluate_checkpoint`, with None for what is not known.

    Raises:
        UserError: A file is missing, or a score map is not float64 with two axes and values in [0, 1].
    """
    start = time.monotonic()
    settings = settings or Settings()
    if settings.draw and data is None:
        raise UserError("pictures need the images: give --data beside --draw")
    made_by = read_note(scoremaps)
    records, records_from = read_split(data, metadata, settings.split)
    tally = Tally(settings.interval)
    overlays = OverlayCollector(records, settings.draw, data)
    size: tuple[int, int] | None = None
    with progress("boxes of score maps", len(records)) as advance:
        for record in records:
            score_map = read_score_map(scoremaps, record.image_id)
            size = size or (score_map.shape[:2] if score_map.ndim == 2 else None)
            try:
                if size is not None and score_map.shape != size:
                    raise ValueError(f"its shape is {score_map.shape}, and that of the maps before it {size}")
                height, width = size or (1, 1)
                tally.add(score_map, record.boxes_at(width, height))
            except (TypeError, ValueError) as error:
                raise UserError(f"{score_map_path(scoremaps, record.image_id)}: {error}") from error
            overlays.add(record, score_map)
            advance()
    return {
        "what": WHAT,
        **tally.figures(),
        "protocol": {**_protocol(records, records_from, settings, size or (0, 0)), "made_by": made_by or None},
        "checkpoint": None,
        "overlays": overlays.draw(tally, Path(out) / "overlays"),
        "seconds": round(time.monotonic() - start, 1),
    }


def choose_device(name: str) -> torch.device:
    """Return the device of that name; "auto" is the GPU where CUDA has one, else the CPU.

    Raises:
        UserError: torch does not know the name, or the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"no device '{name}' ({why}); use --device auto, cpu or cuda") from error
    return device


def _run_network(
    model: nn.Module,
    card: BackboneCard,
    records: Sequence[ImageRecord],
    class_of_label: npt.NDArray[np.int64],
    data: str | Path,
    settings: Settings,
    tally: Tally,
    overlays: OverlayCollector,
    writer: ScoreMapWriter | None,
) -> tuple[tuple[int, int], int]:
    """Count every image; return the size of the maps before resizing, and how many images belie their metadata."""
    device, size = next(model.parameters()).device, settings.input_size
    weight = head_weight(model)
    cam_size, mismatches = (0, 0), 0

    def load(record: ImageRecord) -> tuple[torch.Tensor, bool]:
        image = read_rgb(find_image(data, record.image_id))
        return prepare(image, size, card), image.size == record.size

    with progress(f"maps and boxes, {card.method or card.arch}", len(records)) as advance:
        for batch in read_ahead(records, load, settings.batch_size, settings.workers):
            images = torch.stack([image for _, (image, _) in batch]).to(device)
            labels = torch.from_numpy(class_of_label[[record.label for record, _ in batch]])
            features, logits = features_and_logits(model, images)
            correct = (logits.argmax(dim=1).cpu() == labels).tolist()
            cam_size = (int(features.shape[2]), int(features.shape[3]))
            for index, score_map in enumerate(score_maps(features, weight, labels, (size, size))):
                record, (_, as_described) = batch[index]
                mismatches += not as_described
                tally.add(score_map, record.boxes_at(size, size), correct[index])
                overlays.add(record, score_map)
                if writer:
                    writer.write(record.image_id, score_map)
                advance()
    return cam_size, mismatches


def _check_labels(records: Sequence[ImageRecord], classes: int, data: str | Path) -> None:
    for record in records:
        if record.label >= classes:
            raise UserError(
                f"{record.image_id} is of class {record.label} (from 0), and {Path(data) / 'classes.txt'} lists "
                f"{classes}; are data and metadata of one set?"
            )


def _protocol(
    records: Sequence[ImageRecord], records_from: str, settings: Settings, size: tuple[int, int]
) -> dict[str, Any]:
    return {
        "metric": "MaxBoxAccV2",
        "contours": "all",
        "interval": settings.interval,
        "iou_thresholds": [30, 50, 70],
        "threshold_choice": THRESHOLD_CHOICE,
        "centre_baseline": "a Gaussian at the centre, its threshold chosen in the same way",
        "split": settings.split,
        "records_from": records_from,
        "boxes_sha256": boxes_digest(records, size[0]),
        "score_map_size": list(size),
    }
