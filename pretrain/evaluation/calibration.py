"""Calibration (Fig. 8): whether a network is right as often as it is sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassCalibrationError
from torchmetrics.utilities import dim_zero_cat

BINS = 15
BELOW_ONE = 1 - 2**-24  # the largest float32 below 1


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error (Guo et al. 2017), and the bins that it is the sum of.

    Bin b of B holds the images whose highest probability is in [b / B, (b + 1) / B); the last one holds 1 too.

    Attributes:
        ece: The mean of |accuracy - confidence| over the bins, weighted by their counts, in percent.
        confidence: Mean highest probability of each bin, in [0, 1]; None where the bin is empty.
        accuracy: Share of each bin's images whose class is found, in [0, 1]; None where the bin is empty.
        counts: Images of each bin.
    """

    ece: float
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]
    counts: tuple[int, ...]

    def bins(self) -> dict[str, list[Any]]:
        """Return the bins as plain values, {"confidence": [..], "accuracy": [..], "counts": [..]}."""
        return {"confidence": [*self.confidence], "accuracy": [*self.accuracy], "counts": [*self.counts]}


class CalibrationMeter:
    """Gathers predictions batch by batch; the error is torchmetrics', of 15 equal bins and the L1 norm.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        self._metric = MulticlassCalibrationError(classes, n_bins=BINS, norm="l1", compute_on_cpu=True)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits (N, K) float, and labels (N,) int64."""
        # torchmetrics would count what is exactly 1 in a sixteenth bin.
        self._metric.update(logits.float().softmax(dim=1).clamp(max=BELOW_ONE), labels)

    def compute(self) -> Calibration:
        """Return the error and the bins of all images so far, of at least one."""
        ece = 100 * float(self._metric.compute())
        sure, right = (dim_zero_cat(each).double() for each in (self._metric.confidences, self._metric.accuracies))
        edges = torch.linspace(0, 1, BINS + 1)
        numbers = torch.bucketize(sure.float(), edges, right=True) - 1  # as torchmetrics: lower edges belong to a bin
        counts = numbers.bincount(minlength=BINS).tolist()
        means = [_means(numbers.bincount(each, BINS).tolist(), counts) for each in (sure, right)]
        return Calibration(ece, means[0], means[1], tuple(counts))


def _means(sums: list[float], counts: list[int]) -> tuple[float | None, ...]:
    return tuple(total / count if count else None for total, count in zip(sums, counts, strict=True))
