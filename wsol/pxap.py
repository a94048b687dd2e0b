"""PxAP, exactly as wsolevaluation computes it (Choe et al., CVPR 2020, section 4.1; commit 96f4b88).

The average precision of all pixels of a set, pooled: localisation where the truth is a mask, as in OpenImages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsol.boxes import check_score_map, thresholds
from wsol.kernels import AVAILABLE, compiled

BACKGROUND, OBJECT, IGNORED = 0, 1, 255  # the values of a mask


@dataclass(frozen=True)
class PxAPResult:
    """What `PxAP.compute` returns. The arrays run with the threshold, from 0 upwards.

    Attributes:
        pxap: Area under the precision-recall curve, in percent.
        precision: (T+2,) float64 in [0, 1], the share of object pixels among those with a score of at least the
            threshold; NaN where there is no such pixel.
        recall: (T+2,) float64 in [0, 1], the share of the object pixels that have at least this score.
        thresholds: (T+2,) float64, the T score thresholds, then 1 and 2.
        images: Number of images counted.
    """

    pxap: float
    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    thresholds: npt.NDArray[np.float64]
    images: int


class PxAP:
    """Average precision of pixels over a stream of images.

    Only counts of pixels are kept, so that any number of images takes the same memory. They are integers: those of
    several objects of one interval, of threads or of ranks, add up (`counts` and `images`) to those of the whole set.

    Args:
        interval: Step of the score thresholds, which run from 0 to below 1.

    Attributes:
        edges: (T+3,) float64, the thresholds, then 1, 2 and 3. Bin i holds the scores from edges[i] to
            below edges[i+1].
        counts: (2, T+2) int64, the pixels of each bin: first those of objects, then those of the background.
        images: Number of images counted.

    Raises:
        ValueError: The interval is not in (0, 1].

    Example:
        >>> metric = PxAP(interval=0.5)
        >>> metric.update(np.array([[0.9, 0.7], [0.2, 0.6]]), np.array([[1, 0], [0, 255]], dtype=np.uint8))
        array([[0, 1, 0, 0],
               [1, 1, 0, 0]])
        >>> metric.compute().pxap
        50.0
    """

    def __init__(self, interval: float = 0.001) -> None:
        self.interval = interval
        self.edges = np.append(thresholds(interval), [1.0, 2.0, 3.0])
        self.counts = np.zeros((2, len(self.edges) - 1), dtype=np.int64)
        self.images = 0

    def histograms(self, score_map: npt.NDArray[np.float64], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Return how many pixels of the objects and of the background have a score in each bin.

        Args:
            score_map: (H, W) float64 in [0, 1].
            mask: (H, W) uint8: 1 object, 0 background, 255 ignored.

        Returns:
            (2, T+2) int64: first the pixels of objects, then those of the background.

        Raises:
            TypeError: The score map is not float64, or the mask not uint8.
            ValueError: NaN or values outside [0, 1] in the map, another value in the mask, or shapes that differ.
        """
        check_score_map(score_map)
        _check_mask(mask, score_map.shape)
        if not AVAILABLE:
            return _numpy_histograms(score_map, mask, self.edges)
        counts = np.zeros_like(self.counts)
        _count_pixels(
            np.ascontiguousarray(score_map).ravel(),
            np.ascontiguousarray(mask).ravel(),
            self.edges,
            self.interval,
            counts,
        )
        return counts

    def add(self, histograms: npt.NDArray[np.int64]) -> None:
        """Count one image, given its histograms (2, T+2).

        Raises:
            ValueError: They are of another shape: another interval's.
        """
        if histograms.shape != self.counts.shape:
            raise ValueError(f"histograms must have the shape {self.counts.shape}, not {histograms.shape}")
        self.counts += histograms
        self.images += 1

    def update(self, score_map: npt.NDArray[np.float64], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Count one image and return its histograms (2, T+2). Arguments and errors are those of `histograms`."""
        counts = self.histograms(score_map, mask)
        self.add(counts)
        return counts

    def compute(self) -> PxAPResult:
        """Return the average precision over all pixels counted so far.

        Raises:
            RuntimeError: No pixel of an object was counted; the reference raises the same.
        """
        objects, background = self.counts[:, ::-1].cumsum(axis=1)  # with a score of at least 2, at least 1, ..., 0
        if objects[-1] == 0:
            raise RuntimeError(f"no positive ground truth: no mask of the {self.images} images holds an object pixel")
        predicted = objects + background
        some = predicted > 0
        precision = np.full(len(predicted), np.nan)
        np.divide(objects, predicted, out=precision, where=some)
        recall = objects / objects[-1]
        # Not a trapezium: each step of the recall counts with the precision at its end. The sum's order is the
        # reference's, and with it the last bit.
        area = (precision[1:] * np.diff(recall))[some[1:]].sum()
        return PxAPResult(
            pxap=float(area * 100),
            precision=precision[::-1],
            recall=recall[::-1],
            thresholds=self.edges[:-1],
            images=self.images,
        )


def _check_mask(mask: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    if not isinstance(mask, np.ndarray):
        raise TypeError(f"a mask must be a numpy array, not {type(mask).__name__}")
    if mask.dtype != np.uint8:
        raise TypeError(f"a mask must be uint8, not {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"the mask has the shape {mask.shape}, and its score map {shape}")
    unknown = (mask > OBJECT) & (mask != IGNORED)
    if unknown.any():
        raise ValueError(f"a mask holds 1 (object), 0 (background) and 255 (ignored), not {mask[unknown][0]}")


@compiled
def _count_pixels(
    scores: npt.NDArray[np.float64],
    mask: npt.NDArray[np.uint8],
    edges: npt.NDArray[np.float64],
    interval: float,
    counts: npt.NDArray[np.int64],
) -> None:
    for pixel in range(scores.size):
        if mask[pixel] == IGNORED:
            continue
        score = scores[pixel]
        # The quotient is rounded, and so are the edges: it may fall beside the bin, and the edges decide.
        bin_ = int(score / interval)
        while edges[bin_ + 1] <= score:
            bin_ += 1
        while edges[bin_] > score:
            bin_ -= 1
        counts[OBJECT - mask[pixel], bin_] += 1


def _numpy_histograms(
    score_map: npt.NDArray[np.float64], mask: npt.NDArray[np.uint8], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Where numba is missing: the same counts, in about twice the time."""
    return np.stack([np.histogram(score_map[mask == value], edges)[0] for value in (OBJECT, BACKGROUND)])
