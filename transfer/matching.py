"""Which detections of a picture are right, and which of its objects were seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torchvision.ops import box_iou

SAME_OBJECT = 0.5  # IoU, as for AP50


@dataclass(frozen=True)
class Objects:
    """Objects of one picture.

    Attributes:
        boxes: (n, 4) x0, y0, x1, y1 in pixels of the image file.
        labels: (n,) numbers of the classes.
        scores: (n,) from 0 to 1; empty for true objects.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, boxes: Iterable[Sequence[float]], labels: Iterable[int], scores: Iterable[float] = ()) -> Objects:
        """Make them from plain numbers."""
        array = np.array(list(boxes), dtype=float).reshape(-1, 4)
        return cls(array, np.array(list(labels), dtype=int), np.array(list(scores), dtype=float))

    def above(self, threshold: float) -> Objects:
        """Return the detections with at least this score."""
        keep = self.scores >= threshold
        return Objects(self.boxes[keep], self.labels[keep], self.scores[keep])


def match(truth: Objects, found: Objects, threshold: float = SAME_OBJECT) -> tuple[np.ndarray, np.ndarray]:
    """Decide which detections are right and which objects were seen.

    As COCO's evaluation does: from the highest score down, a detection takes the object of its class that it overlaps
    most and that no other has taken, if their IoU is at least `threshold`. A second detection of an object is false.

    Returns:
        right: (number of detections,) bool.
        seen: (number of objects,) bool.
    """
    right, seen = np.zeros(len(found.labels), dtype=bool), np.zeros(len(truth.labels), dtype=bool)
    overlap = box_iou(torch.from_numpy(found.boxes), torch.from_numpy(truth.boxes)).nan_to_num(0.0).numpy()  # 0 / 0
    for index in np.argsort(-found.scores, kind="stable"):
        free = np.where((truth.labels == found.labels[index]) & ~seen, overlap[index], -1.0)
        if free.size and free.max() >= threshold:
            right[index] = seen[free.argmax()] = True
    return right, seen
