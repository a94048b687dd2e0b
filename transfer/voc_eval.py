"""PASCAL VOC's matching of detections with objects, written once: the figures of both frameworks rest on it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

import numpy as np

THRESHOLDS = range(50, 100, 5)  # IoU in percent
Image = TypeVar("Image", bound=Hashable)


def best_objects(
    images: Iterable[Image], boxes: np.ndarray, objects: Mapping[Image, tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the object that each detection overlaps most: IoU (n,), -inf for none; number (n,); difficult (n,) bool.

    Args:
        images: n names or numbers.
        boxes: (n, 4) xmin, ymin, xmax, ymax in pixels; the IoU is computed and returned in their float type.
        objects: One class's, of each image that has any: boxes (m, 4), of that type, and whether difficult (m,) bool.
    """
    overlaps = np.full(len(boxes), -np.inf, boxes.dtype)
    matched, difficult = np.full(len(boxes), -1), np.zeros(len(boxes), dtype=bool)
    rows_of = defaultdict(list)
    for row, image in enumerate(images):
        rows_of[image].append(row)
    before = 0  # objects of the images that were looked at already
    for image, rows in rows_of.items():
        if image not in objects:
            continue
        others, hard = objects[image]
        iou = _iou(boxes[rows][:, None], others)
        best = iou.argmax(axis=1)
        overlaps[rows] = iou.max(axis=1)
        matched[rows] = before + best
        difficult[rows] = hard[best]
        before += len(others)
    return overlaps, matched, difficult


def judge(hit: np.ndarray, matched: np.ndarray, difficult: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which detections are right and which are wrong, (n,) bool each; some are neither.

    A detection counts for the object of its image that it overlaps most. It is right where the IoU is high enough and
    none before it was right for the same object, neither right nor wrong where that object is marked difficult, and
    wrong else (VOC 2007 devkit, VOCevaldet.m).

    Args:
        hit: Whether the IoU is high enough, (n,) bool; the detections of an object by falling score.
        matched: See `best_objects`.
        difficult: See `best_objects`.
    """
    right = np.zeros(len(hit), dtype=bool)
    candidates = np.flatnonzero(hit & ~difficult)
    right[candidates[np.unique(matched[candidates], return_index=True)[1]]] = True
    return right, ~right & ~(hit & difficult)


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (n, m) of boxes (n, 1, 4) with others (m, 4), the last pixel counted as part of a box."""
    lower, upper = np.maximum(boxes[..., :2], others[..., :2]), np.minimum(boxes[..., 2:], others[..., 2:])
    common = np.maximum(upper - lower + 1.0, 0.0).prod(axis=-1)
    sizes = [np.prod(some[..., 2:] - some[..., :2] + 1.0, axis=-1) for some in (boxes, others)]
    iou: np.ndarray = common / (sizes[0] + sizes[1] - common)
    return iou
