"""Pictures with the detections (in colours, with class and score) over the true boxes (white)."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from pretrain.files import atomic_path

SHORTER_SIDE = 480  # pixels: small pictures are enlarged, so that the labels can be read
WHITE = (255, 255, 255)


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
        with Image.open(sample.img_path) as file:
            picture = file.convert("RGB")
        scale = max(1, round(SHORTER_SIDE / min(picture.size)))
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.BICUBIC)
        pen = ImageDraw.Draw(picture)
        truth, found = sample.gt_instances, sample.pred_instances
        for box, label in zip(truth.bboxes.tolist(), truth.labels.tolist()):
            _frame(pen, box, scale, WHITE, classes[label], below=True)
        for box, label, score in zip(found.bboxes.tolist(), found.labels.tolist(), found.scores.tolist()):
            if score >= score_above:
                _frame(pen, box, scale, _colour(label), f"{classes[label]} {score:.2f}")
        path = Path(folder) / f"{Path(sample.img_path).stem}.jpg"
        with atomic_path(path) as temporary:
            picture.save(temporary, quality=90)
        written.append(path)
    return written


def _frame(
    pen: ImageDraw.ImageDraw,
    box: Sequence[float],
    scale: int,
    colour: tuple[int, int, int],
    text: str,
    below: bool = False,
) -> None:
    corners = [scale * value for value in box]
    pen.rectangle(corners, outline=colour, width=3)
    font = ImageFont.load_default(size=14)
    anchor = (corners[0] + 3, corners[3] - 18 if below else corners[1] + 2)
    pen.rectangle(pen.textbbox(anchor, text, font=font), fill=(0, 0, 0))
    pen.text(anchor, text, fill=colour, font=font)


def _colour(label: int) -> tuple[int, int, int]:
    """Return a bright colour; neighbouring labels get hues far apart."""
    red, green, blue = colorsys.hsv_to_rgb(0.61803 * label % 1, 0.75, 1.0)
    return int(255 * red), int(255 * green), int(255 * blue)
