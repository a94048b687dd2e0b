"""A tiny COCO tree: pictures of noise of different sizes, two objects each, one of them a crowd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CATEGORIES = [{"id": 3, "name": "car", "supercategory": "vehicle"}, {"id": 17, "name": "cat", "supercategory": "pet"}]


def write_coco(root: Path, pictures: dict[str, int]) -> None:
    """Write ROOT/coco with so many pictures of each split; picture n is (40 + n) x 30, with annotations 2n, 2n + 1."""
    generator = np.random.default_rng(0)
    first = 1
    for split, number in pictures.items():
        folder = root / "coco" / f"{split}2017"
        folder.mkdir(parents=True)
        content: dict[str, Any] = {"info": {}, "images": [], "annotations": [], "categories": CATEGORIES}
        for image in range(first, first + number):
            width, name = 40 + image, f"{image:012d}.jpg"
            Image.fromarray(generator.integers(0, 255, (30, width, 3), dtype=np.uint8)).save(folder / name)
            content["images"].append({"id": image, "file_name": name, "width": width, "height": 30})
            corners = [2.5, 3, 12.5, 3, 12.5, 23, 2.5, 23]
            thing = {"id": 2 * image, "image_id": image, "category_id": 17, "iscrowd": 0, "area": 200.0}
            content["annotations"].append({**thing, "bbox": [2.5, 3, 10, 20], "segmentation": [corners]})
            runs = {"counts": [0, 60, 30 * width - 60], "size": [30, width]}
            crowd = {**thing, "id": 2 * image + 1, "category_id": 3, "iscrowd": 1, "area": 60}
            content["annotations"].append({**crowd, "bbox": [0, 0, 2, 30], "segmentation": runs})
        write_annotations(root, split, content)
        first += number


def annotations(root: Path, split: str) -> Path:
    return root / "coco" / "annotations" / f"instances_{split}2017.json"


def write_annotations(root: Path, split: str, content: Any) -> None:
    annotations(root, split).parent.mkdir(exist_ok=True)
    annotations(root, split).write_text(json.dumps(content))
