"""PASCAL VOC's average precision at all IoU thresholds at once; equal to Detectron2's `voc_eval`, to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
from detectron2.evaluation.pascal_voc_evaluation import parse_rec, voc_ap

from pretrain.console import UserError
from transfer.voc_eval import THRESHOLDS, best_objects, judge

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

    See `judge` for what counts as right; the IoU has to be above the threshold. The last pixel is part of a box.

    Args:
        lines: The detections, "image score xmin ymin xmax ymax" each, as PascalVOCDetectionEvaluator keeps them.
        objects: Of `read_objects`.
        class_name: The class that `lines` are of.
        listing: The file that names the images, for messages.
        eleven_points: VOC 2007's metric, the mean of the precision at recall 0, 0.1, ..., 1; else the area.

    Raises:
        UserError: A detection is on an image that is not of the split.
    """
    theirs = _of_class(objects, class_name)
    positives = sum(int(np.sum(~difficult)) for _, difficult in theirs.values())
    fields = [line.split(" ") for line in lines]
    for image, *_ in fields:
        if image not in objects:
            raise UserError(
                f"{listing}: names no image {image}, for which there are detections; evaluate on the split that was "
                "detected on"
            )
    numbers = np.array([field[1:] for field in fields], dtype=float).reshape(-1, 5)
    order = np.argsort(-numbers[:, 0])  # not a stable sort; among equal scores it leaves Detectron2's order
    numbers = numbers[order]
    overlaps, matched, difficult = best_objects([fields[k][0] for k in order], numbers[:, 1:], theirs)
    results = []
    for threshold in THRESHOLDS:
        right, wrong = judge(overlaps > threshold / 100, matched, difficult)
        true, false = np.cumsum(right, dtype=float), np.cumsum(wrong, dtype=float)
        with np.errstate(invalid="ignore"):  # no object of the class: 0 / 0, and an 11-point AP of 0
            recall = true / float(positives)
        precision = true / np.maximum(true + false, np.finfo(np.float64).eps)
        results.append(float(voc_ap(recall, precision, eleven_points)))
    return results


def _of_class(objects: Objects, class_name: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the boxes (m, 4) float64 of a class's objects in each image that has any, and which are difficult."""
    of_class = {}
    for name, found in objects.items():
        if own := [one for one in found if one["name"] == class_name]:
            boxes = np.array([one["bbox"] for one in own], dtype=float)
            of_class[name] = (boxes, np.array([bool(one["difficult"]) for one in own]))
    return of_class
