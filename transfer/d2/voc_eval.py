"""PASCAL VOC's average precision at all IoU thresholds at once; equal to Detectron2's `voc_eval`, to the last bit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
from detectron2.evaluation.pascal_voc_evaluation import parse_rec, voc_ap

from pretrain.console import UserError

THRESHOLDS = range(50, 100, 5)  # IoU in percent
Objects = dict[str, list[dict[str, Any]]]


def read_objects(listing: Path, template: str) -> Objects:
    """Return the objects of each image of a split, as Detectron2's `parse_rec` reads them, once in a process.

    Args:
        listing: ImageSets/Main/<split>.txt, an image's name a line.
        template: Path of an annotation, with {} for the name.

    Raises:
        UserError: An annotation cannot be read, or lacks what the evaluation needs.
    """
    objects = {}
    for name in listing.read_text().split():
        path = template.format(name)
        try:
            objects[name] = parse_rec(path)
        except (OSError, ParseError, AttributeError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: no VOC annotation that can be evaluated on ({error}); an object needs name, pose, truncated, "
                "difficult and whole numbers in bndbox"
            ) from error
    return objects


def average_precisions(
    lines: Sequence[str], objects: Objects, class_name: str, listing: str, eleven_points: bool
) -> list[float]:
    """Return a class's average precision, a fraction, at each of THRESHOLDS.

    A detection counts for the object of its image that it overlaps most. It is right where the IoU is above the
    threshold and no better one was right for the same object, neither right nor wrong where that object is marked
    difficult, and wrong else (VOC 2007 devkit, VOCevaldet.m). The last pixel counts as part of a box.

    Args:
        lines: The detections, "image score xmin ymin xmax ymax" each, as PascalVOCDetectionEvaluator keeps them.
        objects: Of `read_objects`.
        class_name: The class that `lines` are of.
        listing: The file that names the images, for messages.
        eleven_points: VOC 2007's metric, the mean of the precision at recall 0, 0.1, ..., 1; else the area.

    Raises:
        UserError: A detection is on an image that is not of the split.
    """
    theirs = {name: [one for one in found if one["name"] == class_name] for name, found in objects.items()}
    positives = sum(not one["difficult"] for found in theirs.values() for one in found)
    fields = [line.split(" ") for line in lines]
    for image, *_ in fields:
        if image not in theirs:
            raise UserError(
                f"{listing}: names no image {image}, for which there are detections; evaluate on the split that was "
                "detected on"
            )
    numbers = np.array([field[1:] for field in fields], dtype=float).reshape(-1, 5)
    order = np.argsort(-numbers[:, 0])  # not a stable sort; among equal scores it leaves Detectron2's order
    numbers = numbers[order]
    overlaps, matched, difficult = _best_objects([fields[k][0] for k in order], numbers[:, 1:], theirs)
    results = []
    for threshold in THRESHOLDS:
        hit = overlaps > threshold / 100
        candidates = np.flatnonzero(hit & ~difficult)
        right = np.zeros(len(hit))
        right[candidates[np.unique(matched[candidates], return_index=True)[1]]] = 1
        wrong = ~hit | (hit & ~difficult & (right == 0))
        true, false = np.cumsum(right), np.cumsum(wrong, dtype=float)
        with np.errstate(invalid="ignore"):  # no object of the class: 0 / 0, and an 11-point AP of 0
            recall = true / float(positives)
        precision = true / np.maximum(true + false, np.finfo(np.float64).eps)
        results.append(float(voc_ap(recall, precision, eleven_points)))
    return results


def _best_objects(images: list[str], boxes: np.ndarray, objects: Objects) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the object that each detection overlaps most: IoU (n,), -inf for none; number (n,); difficult (n,) bool.

    Args:
        images: n names.
        boxes: (n, 4) xmin, ymin, xmax, ymax in pixels, float64.
        objects: One class's, of every image.
    """
    overlaps = np.full(len(boxes), -np.inf)
    matched, difficult = np.full(len(boxes), -1), np.zeros(len(boxes), dtype=bool)
    rows_of = defaultdict(list)
    for row, image in enumerate(images):
        rows_of[image].append(row)
    before = 0  # objects of the images that were looked at already
    for image, rows in rows_of.items():
        here = objects[image]
        if not here:
            continue
        iou = _iou(boxes[rows][:, None], np.array([one["bbox"] for one in here], dtype=float))
        best = iou.argmax(axis=1)
        overlaps[rows] = iou.max(axis=1)
        matched[rows] = before + best
        difficult[rows] = np.array([bool(one["difficult"]) for one in here])[best]
        before += len(here)
    return overlaps, matched, difficult


def _iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (n, m) of boxes (n, 1, 4) with others (m, 4), the last pixel counted as part of a box."""
    lower, upper = np.maximum(boxes[..., :2], others[..., :2]), np.minimum(boxes[..., 2:], others[..., 2:])
    common = np.maximum(upper - lower + 1.0, 0.0).prod(axis=-1)
    sizes = [np.prod(some[..., 2:] - some[..., :2] + 1.0, axis=-1) for some in (boxes, others)]
    iou: np.ndarray = common / (sizes[0] + sizes[1] - common)
    return iou
