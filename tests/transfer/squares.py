"""One set of pictures in VOC's and in COCO's layout: plain squares, a colour for each class, on noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from transfer.datasets import VOC_CLASSES

SIDE = 96
USED = (0, 7, 14)  # positions in VOC_CLASSES


def write_squares(root: Path) -> None:
    """Write VOCdevkit/VOC2007, VOCdevkit/VOC2012 and coco to `root`: eight pictures to train on, four to test."""
    rng = np.random.default_rng(0)
    splits = {"train": [], "val": []}
    for number in range(12):
        splits["train" if number < 8 else "val"].append(_picture(rng, number))
    for split, pictures in splits.items():
        _write_coco(root / "coco", split, pictures)
    _write_voc(root / "VOCdevkit" / "VOC2007", "trainval", splits["train"][:4])
    _write_voc(root / "VOCdevkit" / "VOC2007", "test", splits["val"])
    _write_voc(root / "VOCdevkit" / "VOC2012", "trainval", splits["train"][4:])


def _picture(rng, number):
    """Return (name, image, [(class, x, y, width, height)])."""
    pixels = rng.integers(90, 110, (SIDE, SIDE, 3), dtype=np.uint8)
    boxes = []
    for corner in ((4, 4), (50, 48)):
        kind, width, height = int(rng.choice(USED)), int(rng.integers(24, 40)), int(rng.integers(24, 40))
        x, y = corner
        pixels[y : y + height, x : x + width] = (255 * (kind == 0), 255 * (kind == 7), 255 * (kind == 14))
        boxes.append((kind, x, y, width, height))
    return f"{number:06d}", Image.fromarray(pixels), boxes


def _write_coco(folder, split, pictures):
    (folder / f"{split}2017").mkdir(parents=True)
    images, annotations = [], []
    for name, image, boxes in pictures:
        image.save(folder / f"{split}2017" / f"{name}.jpg")
        images.append({"id": int(name) + 1, "file_name": f"{name}.jpg", "width": SIDE, "height": SIDE})
        for kind, *box in boxes:
            number = len(annotations) + 1
            annotations.append(
                {
                    "id": number,
                    "image_id": int(name) + 1,
                    "category_id": kind + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(VOC_CLASSES)]
    path = folder / "annotations" / f"instances_{split}2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def _write_voc(folder, split, pictures):
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, image, boxes in pictures:
        image.save(folder / "JPEGImages" / f"{name}.jpg")
        objects = "".join(
            f"<object><name>{VOC_CLASSES[kind]}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin>"
            f"<ymin>{y + 1}</ymin><xmax>{x + width}</xmax><ymax>{y + height}</ymax></bndbox></object>"
            for kind, x, y, width, height in boxes
        )
        size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    names = "".join(f"{name}\n" for name, _, _ in pictures)
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(names)
