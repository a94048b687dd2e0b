"""MaxBoxAcc and MaxBoxAccV2, exactly as wsolevaluation computes them (Choe et al., CVPR 2020; commit 96f4b88)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsol import contours as by_contours
from wsol import kernels
from wsol.boxes import LEVELS, BestBoxes, check_boxes, check_contours, levels_of, quantise, thresholds


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


class MaxBoxAcc:
    """Localisation accuracy at the best score threshold, over a stream of images.

    With `contours="all"` and IoU thresholds 30, 50 and 70 the mean is MaxBoxAccV2, and with `contours="largest"` and 50
    it is MaxBoxAcc. Only counts are kept, so that any number of images takes the same memory; those of several
    processes add up (`num_correct`, `images`).

    Args:
        interval: Step of the score thresholds, which run from 0 to below 1.
        iou_thresholds: In percent; an estimate with at least this IoU counts as correct.
        contours: "all" or "largest"; see `wsol.contours.boxes_above`.

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
        if not all(0 <= value <= 100 and not 0 < value < 1 for value in self.iou_thresholds):
            raise ValueError(f"IoU thresholds are in percent, such as 50, from 0 to 100: {self.iou_thresholds}")
        self.images = 0
        self.num_correct = np.zeros((len(self.iou_thresholds), len(self.thresholds)), dtype=np.int64)
        self._levels: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}

    def levels_of(self, maximum: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the levels (L,) of a map with this highest pixel, and the place (T,) of each threshold's level."""
        if maximum not in self._levels:
            self._levels[maximum] = levels_of(self.thresholds, maximum)
        return self._levels[maximum]

    def best_boxes(self, score_map: npt.NDArray[np.float64], boxes: npt.ArrayLike) -> BestBoxes:
        """Return the estimated box of the highest IoU with any true one, at every score threshold.

        Args:
            score_map: (H, W) float64 in [0, 1].
            boxes: (n, 4) int, the true boxes x0, y0, x1, y1 in pixels of the score map.

        Raises:
            TypeError: The score map is not float64.
            ValueError: NaN or values outside [0, 1] in the map, or a map of another shape.
            BoxError: A negative or inverted box, or a wrong shape; a RuntimeError, as in the reference.
        """
        pixels, true = quantise(score_map), check_boxes(boxes)
        levels, place = self.levels_of(int(pixels.max()))
        wanted = np.zeros(LEVELS, dtype=np.bool_)
        wanted[levels] = True
        fast = kernels.AVAILABLE and max(pixels.shape) <= kernels.LONGEST_SIDE
        find = kernels.best_boxes if fast else by_contours.best_boxes
        iou, found = find(pixels, wanted, true, self.contours == "largest")
        return BestBoxes(iou[levels], found[levels], place)

    def best_iou(self, score_map: npt.NDArray[np.float64], boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the best IoU of any estimated box with any true one, for each score threshold, (T,) float64.

        Arguments and errors are those of `best_boxes`.
        """
        best = self.best_boxes(score_map, boxes)
        return best.iou[best.level]

    def hits(self, best_iou: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return (number of IoU thresholds, ...) bool: whether each best IoU suffices."""
        enough = np.array([value / 100 for value in self.iou_thresholds])
        return best_iou[None, :] >= enough[:, None]

    def update(self, score_map: npt.NDArray[np.float64], boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Count one image and return its best IoU (T,). Arguments and errors are those of `best_boxes`."""
        best = self.best_iou(score_map, boxes)
        self.num_correct += self.hits(best)
        self.images += 1
        return best

    def compute(self) -> MaxBoxAccResult:
        """Return the accuracies over all images counted so far.

        Raises:
            ValueError: No image was counted.
        """
        return self.result_of(self.num_correct, self.images)

    def result_of(self, num_correct: npt.NDArray[np.int64], images: int) -> MaxBoxAccResult:
        """Return the accuracies of given counts: (number of IoU thresholds, T) int hits among so many images.

        Raises:
            ValueError: No image was counted.
        """
        if not images:
            raise ValueError("no image was counted: call update() before compute()")
        curve = np.asarray(num_correct * 100.0 / float(images), dtype=np.float64)
        # The mean over images comes before the maximum over thresholds; the other order would inflate the figure.
        best = curve.argmax(axis=1)
        accuracy = {value: float(curve[row, best[row]]) for row, value in enumerate(self.iou_thresholds)}
        return MaxBoxAccResult(
            accuracy=accuracy,
            mean=float(np.mean(list(accuracy.values()))),
            best_threshold={value: float(self.thresholds[best[row]]) for row, value in enumerate(self.iou_thresholds)},
            curve=curve,
            images=images,
        )
