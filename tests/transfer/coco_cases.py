"""Objects and detections, drawn from a seed, with all that makes two implementations of COCO's AP part ways."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as masks

IMAGES, CATEGORIES = 320, 80
WITHOUT_OBJECTS, WITHOUT_DETECTIONS = range(20), range(20, 40)  # positions of images; below, of categories
NEVER_THERE, NEVER_FOUND, NEITHER = range(4), range(4, 8), range(8, 10)
CROWDED, COMMON = (50, 51), 20  # images with more detections of a category than the 100 that count; that category

Record = dict[str, Any]


def hard_case(seed: int = 0) -> tuple[Record, list[Record]]:
    """Return (content of an instances_*.json, detections with "bbox" and compressed "segmentation").

    Category ids have gaps and image ids come in no order. There are crowds as RLE, outlines and RLE for single
    objects, areas from none to large, scores with many ties, detections twice over, without area or outside of the
    image, images without objects or detections, categories without either or both.
    """
    rng = np.random.default_rng(seed)
    ids = rng.permutation(5000)[:IMAGES].tolist()
    category_ids = sorted((1 + rng.permutation(200)[:CATEGORIES]).tolist())
    images = [
        {"id": number, "file_name": f"{number}.jpg", "height": int(height), "width": int(width)}
        for number, height, width in zip(ids, *rng.integers(100, 240, (2, IMAGES)))
    ]
    annotations: list[Record] = []
    detections: list[Record] = []
    for position, image in enumerate(images):
        objects = [] if position in WITHOUT_OBJECTS else [_object(rng, image) for _ in range(rng.integers(1, 9))]
        for thing in objects:
            category = COMMON if position in CROWDED else _category(rng, (*NEVER_THERE, *NEITHER))
            crowd = int(rng.random() < 0.06)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category_ids[category]}
                | {"iscrowd": crowd, **_annotated(rng, thing, image, crowd)}
            )
            thing["category"] = category
        if position in WITHOUT_DETECTIONS:
            continue
        for _ in range(260 if position in CROWDED else rng.integers(1, 30)):
            copied = objects and rng.random() < 0.8
            thing = objects[rng.integers(len(objects))] if copied else _object(rng, image)
            category = thing["category"] if copied and rng.random() < 0.85 else _category(rng, (*NEVER_FOUND, *NEITHER))
            if category in NEVER_FOUND:
                continue
            box = _jittered(rng, thing["box"])
            found = {"image_id": image["id"], "category_id": category_ids[category], "bbox": box}
            found |= {"score": round(float(rng.beta(2, 3)), 2), "segmentation": _filled(box, image)}
            detections += [found] * (2 if rng.random() < 0.05 else 1)
    order = rng.permutation(len(annotations))
    categories = [{"id": number, "name": f"class {number}"} for number in category_ids]
    truth = {"images": images, "annotations": [annotations[k] for k in order], "categories": categories}
    return truth, [dict(found) for found in detections]


def _category(rng: np.random.Generator, barred: tuple[int, ...]) -> int:
    allowed = [number for number in range(CATEGORIES) if number not in barred]
    return allowed[int(len(allowed) * rng.random() ** 2)]  # the first ones far more often


def _object(rng: np.random.Generator, image: Record) -> Record:
    """Return {"box": x, y, width, height}: sides from 2 pixels to the image's, some of no length."""
    sides = np.minimum(2 * 100 ** rng.random(2), (image["width"], image["height"]))
    if rng.random() < 0.06:
        sides[:] = rng.choice((32, 96))  # small, medium and large objects part at these
    corner = rng.random(2) * (np.array((image["width"], image["height"])) - sides)
    if rng.random() < 0.02:
        sides[rng.integers(2)] = 0
    return {"box": [round(float(value), 2) for value in (*corner, *sides)]}


def _annotated(rng: np.random.Generator, thing: Record, image: Record, crowd: int) -> Record:
    """Return "bbox", "area" and "segmentation": uncompressed RLE for a crowd, an outline or compressed RLE else."""
    box = x, y, width, height = thing["box"]
    if crowd:
        pixels = _ellipse(box, image).flatten(order="F")
        changes = np.flatnonzero(np.diff(pixels)) + 1
        counts = np.diff([0, *changes, pixels.size]).tolist()
        segmentation: Any = {"size": [image["height"], image["width"]], "counts": [0] * int(pixels[0]) + counts}
    elif rng.random() < 0.7:
        segmentation = [[x, y, x + width, y, x + width, y + height, x + width / 2, y + 0.7 * height, x, y + height]]
    else:
        segmentation = _filled(box, image)
    return {"bbox": box, "area": width * height, "segmentation": segmentation}


def _jittered(rng: np.random.Generator, box: list[float]) -> list[float]:
    """Return the box itself, or moved and stretched; some lose their area, a few leave the image."""
    draw = rng.random()
    if draw < 0.1:
        return list(box)
    x, y, width, height = np.array(box) * rng.normal(1, 0.08, 4)
    if draw < 0.14:
        width = 0.0
    elif draw < 0.16:
        x += 5000
    return [float(value) for value in (x, y, width, height)]


def _filled(box: list[float], image: Record) -> Record:
    """Return the pixels of an ellipse in the box as compressed RLE."""
    encoded: Record = masks.encode(np.asfortranarray(_ellipse(box, image)))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def _ellipse(box: list[float], image: Record) -> np.ndarray:
    """Return 1 in an ellipse in the box, (height, width) uint8; it may hold no pixel."""
    x, y, width, height = box
    rows, columns = np.ogrid[: image["height"], : image["width"]]
    across = (columns + 0.5 - x - width / 2) / max(width / 2, 1e-9)
    down = (rows + 0.5 - y - height / 2) / max(height / 2, 1e-9)
    return (across**2 + down**2 <= 1).astype(np.uint8)
