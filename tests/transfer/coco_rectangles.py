"""A tiny COCO 2017 tree: a red rectangle with its mask on a dark noisy ground, class 18 of 80."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = {"train": 8, "val": 4}
CATEGORY = 18


def write_coco(root: Path) -> None:
    """Write coco/{train,val}2017 (8 and 4 pictures, 128 x 96) and their annotations, boxes as x, y, width, height."""
    generator = np.random.default_rng(0)
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, 81)]
    (root / "coco" / "annotations").mkdir(parents=True)
    for split, number in PICTURES.items():
        folder = root / "coco" / f"{split}2017"
        folder.mkdir()
        images, annotations = [], []
        for index in range(number):
            pixels = generator.integers(0, 80, (96, 128, 3), dtype=np.uint8)
            x, y = int(generator.integers(0, 70)), int(generator.integers(0, 50))
            pixels[y : y + 40, x : x + 48] = (200, 40, 40)
            Image.fromarray(pixels).save(folder / f"{index:012}.jpg")
            images.append({"id": index, "file_name": f"{index:012}.jpg", "width": 128, "height": 96})
            outline = [x, y, x + 48, y, x + 48, y + 40, x, y + 40]
            annotations.append(
                {"id": index + 1, "image_id": index, "category_id": CATEGORY, "bbox": [x, y, 48, 40], "area": 48 * 40}
                | {"iscrowd": 0, "segmentation": [outline]}
            )
        content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        (root / "coco" / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
