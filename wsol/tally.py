"""The figures of an evaluation, counted image by image: MaxBoxAccV2, the centre baseline, Top-1 localisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wsol.boxes import ThresholdBoxes
from wsol.metrics import MaxBoxAcc, MaxBoxAccResult, best_iou_over_thresholds


def centre_gaussian(height: int, width: int) -> npt.NDArray[np.float64]:
    """Return a Gaussian at the centre, the score map that knows nothing of the image, as (height, width) in [0, 1].

    Its standard deviation is a quarter of each side. The metric chooses the threshold, so that this makes little
    difference: any width gives the same growing boxes about the centre.
    """
    rows = (np.arange(height) - (height - 1) / 2) / (height / 4)
    columns = (np.arange(width) - (width - 1) / 2) / (width / 4)
    return np.asarray(np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / 2), dtype=np.float64)


class Tally:
    """Counts an evaluation as it streams by.

    Args:
        interval: Step of the score thresholds.
    """

    def __init__(self, interval: float = 0.001) -> None:
        self.metric = MaxBoxAcc(interval)
        self.centre = MaxBoxAcc(interval)
        self.blank = 0
        self.classified = 0  # images for which it is known whether the class was right
        self.top1 = 0
        self.localised = np.zeros_like(self.metric.num_correct)
        self._centre_boxes: dict[tuple[int, int], ThresholdBoxes] = {}

    def add(
        self, score_map: npt.NDArray[np.float64], boxes: npt.NDArray[np.int64], class_correct: bool | None = None
    ) -> None:
        """Count one image.

        Args:
            score_map: (H, W) float64 in [0, 1].
            boxes: (n, 4) int, the true boxes in pixels of the score map.
            class_correct: Whether the predicted class is the true one; None where there is no prediction.

        Raises:
            TypeError, ValueError: See `MaxBoxAcc.best_iou`.
        """
        best_iou = self.metric.update(score_map, boxes)
        self.blank += not score_map.any()
        shape = (score_map.shape[0], score_map.shape[1])
        if shape not in self._centre_boxes:
            self._centre_boxes[shape] = self.centre.estimate(centre_gaussian(*shape))
        self.centre.add(best_iou_over_thresholds(self._centre_boxes[shape], boxes))
        if class_correct is not None:
            self.classified += 1
            self.top1 += class_correct
            self.localised += self.metric.hits(best_iou) & class_correct

    def figures(self) -> dict[str, Any]:
        """Return every figure, in percent, as plain values; see docs/wsol.md for the meaning of each.

        Top-1 figures are None unless every image came with a prediction.
        """
        result, centre = self.metric.compute(), self.centre.compute()
        known = self.classified == result.images
        return {
            "max_box_acc_v2": _by_iou(result),
            "best_threshold": {str(iou): threshold for iou, threshold in result.best_threshold.items()},
            "centre_baseline": _by_iou(centre),
            "top1_cls": 100.0 * self.top1 / result.images if known else None,
            "top1_loc": self._top1_localisation(result) if known else None,
            "images": result.images,
            "blank_maps": self.blank,
            "thresholds": self.metric.thresholds.tolist(),
            "curve": {str(iou): row.tolist() for iou, row in zip(self.metric.iou_thresholds, result.curve)},
        }

    def _top1_localisation(self, result: MaxBoxAccResult) -> dict[str, float]:
        """At the threshold that MaxBoxAcc chose for each IoU, so that nothing more is tuned to the split."""
        best = result.curve.argmax(axis=1)
        values = {
            str(iou): 100.0 * float(self.localised[row, best[row]]) / result.images
            for row, iou in enumerate(self.metric.iou_thresholds)
        }
        return {**values, "mean": sum(values.values()) / len(values)}


def _by_iou(result: MaxBoxAccResult) -> dict[str, float]:
    return {**{str(iou): accuracy for iou, accuracy in result.accuracy.items()}, "mean": result.mean}
