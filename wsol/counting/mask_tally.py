"""The counts of an evaluation over masks, as `wsol.counting.tally` keeps them over boxes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from wsol.counting.tally import centre_gaussian, count_class, empty_counts
from wsol.maps.sources import Scored
from wsol.masks import read_mask
from wsol.pxap import PxAP, PxAPResult


@dataclass(frozen=True)
class MeasuredMask:
    """What is kept of one image.

    Attributes:
        scored: The image and what the network said of its class; its score map is not kept.
        pixels, centre: (2, T + 2) int64, the histograms of its map and of a centred Gaussian; see `PxAP`.
        blank: The map is 0 throughout.
    """

    scored: Scored
    pixels: npt.NDArray[np.int64]
    centre: npt.NDArray[np.int64]
    blank: bool


class MaskTally:
    """Counts an evaluation over masks as it streams by.

    Args:
        interval: Step of the score thresholds.
        classes: Number of classes of the data.
        root: Folder of the masks.

    Attributes:
        counts: Arrays of int64: those about classes that a `BoxTally` has too, and the histograms pixels and centre.
    """

    def __init__(self, interval: float, classes: int, root: str | Path) -> None:
        self.metric = PxAP(interval)
        self.root = root
        self._centres: dict[tuple[int, int], npt.NDArray[np.float64]] = {}
        shape = self.metric.counts.shape
        self.counts = empty_counts(classes, {"pixels": shape, "centre": shape})

    def measure(self, scored: Scored, score_map: npt.NDArray[np.float64]) -> MeasuredMask:
        """Measure one image by its score map (H, W). Nothing is counted, so that any thread may do it.

        Raises:
            TypeError, ValueError: See `PxAP.histograms`.
            UserError: A mask is missing or damaged.
        """
        height, width = score_map.shape
        mask = read_mask(self.root, scored.record.masks, scored.record.ignore, (width, height))
        if score_map.shape not in self._centres:
            self._centres[score_map.shape] = centre_gaussian(height, width)
        centre = self.metric.histograms(self._centres[score_map.shape], mask)
        pixels = self.metric.histograms(score_map, mask)
        return MeasuredMask(scored.without_map(), pixels, centre, not score_map.any())

    def add(self, measured: MeasuredMask) -> None:
        """Count one image."""
        count_class(self.counts, measured.scored, measured.blank)
        self.counts["pixels"] += measured.pixels
        self.counts["centre"] += measured.centre

    def result(self, name: str) -> PxAPResult:
        """Return the metric of the maps ("pixels") or of the centred Gaussian ("centre").

        Raises:
            RuntimeError: No mask holds a pixel of an object.
        """
        metric = PxAP(self.metric.interval)
        metric.counts, metric.images = self.counts[name], int(self.counts["images"].sum())
        return metric.compute()
