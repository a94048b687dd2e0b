"""MaxBoxAcc and MaxBoxAccV2, exactly as wsolevaluation computes them (Choe et al., CVPR 2020; commit 96f4b88)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsol.boxes import ThresholdBoxes, boxes_over_thresholds, check_contours, thresholds


@dataclass(frozen=True)
class MaxBoxAccResult:
    """What `MaxBoxAcc.compute` returns.

    Attributes:
        accuracy: For each IoU threshold in percent, the accuracy in percent at the threshold that is best for it.
        mean: Mean of these; with all contours and 30, 50, 70 this is MaxBoxAccV2.
        best_threshold: For each IoU threshold, the first score threshold that reaches that accuracy. It is found on
            the evaluated images themselves: an oracle.
        curve: (number of IoU thresholds, T) float64, the accuracy in percent at every score threshold.
        images: Number of images counted.
    """

    accuracy: dict[int, float]
    mean: float
    best_threshold: dict[int, float]
    curve: npt.NDArray[np.float64]
    images: int


def check_boxes(boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return boxes as (n, 4) float64, in which pixel coordinates are exact; one box (4,) becomes (1, 4).

    Raises:
        ValueError: Another shape, no box, a NaN, a negative coordinate, or a far corner before the near one.
    """
    array = np.asarray(boxes, dtype=np.float64)
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] != 4 or len(array) == 0:
        raise ValueError(f"boxes must have the shape (n, 4) with n >= 1, not {np.shape(boxes)}")
    if not np.isfinite(array).all():
        raise ValueError("a box holds NaN or infinity")
    if (array < 0).any():
        raise ValueError(f"a box has a negative coordinate: {array[(array < 0).any(axis=1)][0].tolist()}")
    if (array[:, 2:] < array[:, :2]).any():
        wrong = array[(array[:, 2:] < array[:, :2]).any(axis=1)][0]
        raise ValueError(f"a box must be x0, y0, x1, y1 with x0 <= x1 and y0 <= y1, not {wrong.tolist()}")
    return array


def box_iou(first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the intersection over union of every pair of boxes; both corners count as inside a box.

    Args:
        first: (n, 4), x0, y0, x1, y1 in pixels.
        second: (m, 4), likewise.

    Returns:
        (n, m) float64 in [0, 1].

    Raises:
        ValueError: See `check_boxes`.
    """
    return _iou(check_boxes(first), check_boxes(second))


def _iou(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # Corners never cross (check_boxes), so that every box holds a pixel and the union is never 0.
    near = np.maximum(first[:, None, :2], second[None, :, :2])
    far = np.minimum(first[:, None, 2:], second[None, :, 2:])
    overlap = np.clip(far - near + 1, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1) for boxes in (first, second)]
    union: npt.NDArray[np.float64] = areas[0][:, None] + areas[1][None, :] - overlap
    return overlap / union


def best_iou_over_thresholds(found: ThresholdBoxes, boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return, for each threshold, the best IoU of any estimated box with any true one.

    Args:
        found: The boxes estimated from a score map.
        boxes: (n, 4), the true boxes in pixels of the score map.

    Returns:
        (T,) float64.
    """
    best_of_box = _iou(found.boxes.astype(np.float64), check_boxes(boxes)).max(axis=1)
    best: npt.NDArray[np.float64] = np.maximum.reduceat(best_of_box, found.starts)[found.foreground]
    return best


class MaxBoxAcc:
    """Localisation accuracy at the best score threshold, over a stream of images.

    With `contours="all"` and IoU thresholds 30, 50 and 70 the mean is MaxBoxAccV2, and with `contours="largest"` and 50
    it is MaxBoxAcc. Only counts are kept, so that any number of images takes the same memory.

    Args:
        interval: Step of the score thresholds, which run from 0 to below 1.
        iou_thresholds: In percent; an estimate with at least this IoU counts as correct.
        contours: "all" or "largest"; see `wsol.boxes.boxes_above`.

    Raises:
        ValueError: An argument outside its range.

    Example:
        >>> metric = MaxBoxAcc(interval=0.5)
        >>> metric.update(np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]]), [[1, 1, 2, 2]])
        array([1., 1.])
        >>> metric.compute().mean
        100.0
    """

    def __init__(
        self, interval: float = 0.001, iou_thresholds: Sequence[int] = (30, 50, 70), contours: str = "all"
    ) -> None:
        self.thresholds = thresholds(interval)
        self.contours = check_contours(contours)
        self.iou_thresholds = tuple(iou_thresholds)
        if not self.iou_thresholds or len(set(self.iou_thresholds)) < len(self.iou_thresholds):
            raise ValueError(f"IoU thresholds must be given and differ: {self.iou_thresholds}")
        if not all(0 <= value <= 100 for value in self.iou_thresholds):
            raise ValueError(f"IoU thresholds are in percent, from 0 to 100: {self.iou_thresholds}")
        self.images = 0
        self.num_correct = np.zeros((len(self.iou_thresholds), len(self.thresholds)), dtype=np.int64)

    def estimate(self, score_map: npt.NDArray[np.float64]) -> ThresholdBoxes:
        """Return the boxes of a score map (H, W) float64 in [0, 1] at every score threshold."""
        return boxes_over_thresholds(score_map, self.thresholds, self.contours)

    def best_iou(self, score_map: npt.NDArray[np.float64], boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the best IoU of any estimated box with any true one, for each score threshold.

        Args:
            score_map: (H, W) float64 in [0, 1].
            boxes: (n, 4) int, the true boxes x0, y0, x1, y1 in pixels of the score map.

        Returns:
            (T,) float64.

        Raises:
            TypeError: The score map is not float64.
            ValueError: NaN or values outside [0, 1] in the map, a wrong shape, a negative or inverted box.
        """
        true = check_boxes(boxes)
        return best_iou_over_thresholds(self.estimate(score_map), true)

    def hits(self, best_iou: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return (number of IoU thresholds, T) bool: whether a best IoU (T,) suffices."""
        return best_iou[None, :] >= np.array([value / 100 for value in self.iou_thresholds])[:, None]

    def add(self, best_iou: npt.NDArray[np.float64]) -> None:
        """Count one image, given its best IoU (T,)."""
        self.num_correct += self.hits(best_iou)
        self.images += 1

    def update(self, score_map: npt.NDArray[np.float64], boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Count one image and return its best IoU (T,). Arguments and errors are those of `best_iou`."""
        best = self.best_iou(score_map, boxes)
        self.add(best)
        return best

    def compute(self) -> MaxBoxAccResult:
        """Return the accuracies over all images counted so far.

        Raises:
            ValueError: No image was counted.
        """
        if not self.images:
            raise ValueError("no image was counted: call update() before compute()")
        curve: npt.NDArray[np.float64] = np.asarray(self.num_correct * 100.0 / float(self.images), dtype=np.float64)
        # The mean over images comes before the maximum over thresholds; the other order would inflate the figure.
        best = curve.argmax(axis=1)
        accuracy = {value: float(curve[row, best[row]]) for row, value in enumerate(self.iou_thresholds)}
        return MaxBoxAccResult(
            accuracy=accuracy,
            mean=float(np.mean(list(accuracy.values()))),
            best_threshold={value: float(self.thresholds[best[row]]) for row, value in enumerate(self.iou_thresholds)},
            curve=curve,
            images=self.images,
        )
