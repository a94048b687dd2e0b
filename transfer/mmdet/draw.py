"""Evaluated pictures with their true boxes and the detections, from MMDetection's samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from transfer.draw import overlay, save
from transfer.matching import Objects

SHORTER_SIDE = 480  # pixels: small pictures are enlarged, so that the labels can be read


def draw_samples(samples: Sequence[Any], classes: Sequence[str], folder: str | Path, score_above: float) -> list[Path]:
    """Write one JPEG an image to `folder` and return their paths.

    Args:
        samples: mmdet's DetDataSample of evaluated images, with `pred_instances`, `gt_instances` and `img_path`; boxes
            (n, 4) as x0, y0, x1, y1 in pixels of the image file.
        classes: Names of the classes.
        folder: Made where it is missing; files of the same name are replaced.
        score_above: Detections with a lower score are left out.
    """
    written = []
    for sample in samples:
        truth, found = sample.gt_instances, sample.pred_instances
        with Image.open(sample.img_path) as image:
            drawn = overlay(
                image,
                Objects.of(truth.bboxes.tolist(), truth.labels.tolist()),
                Objects.of(found.bboxes.tolist(), found.labels.tolist(), found.scores.tolist()).above(score_above),
                classes,
                SHORTER_SIDE,
            )
        written.append(save(drawn, Path(folder) / f"{Path(sample.img_path).stem}.jpg"))
    return written
