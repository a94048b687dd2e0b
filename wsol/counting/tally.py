"""The counts of an evaluation over boxes: each image is measured by any thread, and the counts are whole numbers.

Counts of several processes add up, whatever their shares of the images, and their order is of no account.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wsol.boxes import BestBoxes, check_boxes, quantise
from wsol.boxes import box_iou as iou_of
from wsol.contours import boxes_above
from wsol.errors import KINDS, kinds_of_error
from wsol.maps.sources import Scored
from wsol.metrics import MaxBoxAcc

TOP_K = 5
Counts = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Measured:
    """What is kept of one image; D is the number of IoU thresholds, L that of the levels of its map.

    Attributes:
        scored: The image and what the network said of its class; its score map is not kept.
        shape: Height and width of that map.
        best: The best box at each level, boxes as (L, 4) int32.
        hits, largest, centre: (D, L) bool, whether the best box, that of the largest contour, and the centred
            Gaussian's are right; the Gaussian has levels of its own.
        kinds: (L,) int8, what is wrong with the best box; see `wsol.errors`.
        blank: The map is 0 throughout.
    """

    scored: Scored
    shape: tuple[int, int]
    best: BestBoxes
    hits: npt.NDArray[np.bool_]
    largest: npt.NDArray[np.bool_]
    centre: npt.NDArray[np.bool_]
    kinds: npt.NDArray[np.int8]
    blank: bool


def centre_gaussian(height: int, width: int) -> npt.NDArray[np.float64]:
    """Return a Gaussian at the centre, the score map that knows nothing of the image, as (height, width) in [0, 1].

    Its standard deviation is a quarter of each side. The metric chooses the threshold, so that this makes little
    difference: any width gives the same growing boxes about the centre.
    """
    rows = (np.arange(height) - (height - 1) / 2) / (height / 4)
    columns = (np.arange(width) - (width - 1) / 2) / (width / 4)
    return np.asarray(np.exp(-(rows[:, None] ** 2 + columns[None, :] ** 2) / 2), dtype=np.float64)


def empty_counts(classes: int, more: dict[str, tuple[int, ...]]) -> Counts:
    """Return the counts that every evaluation has, and more, all 0."""
    of_classes = dict.fromkeys(("images", "top1"), (classes,)) | dict.fromkeys(
        ("blank", "classified", "top5", "unlike"), (1,)
    )
    return {name: np.zeros(shape, dtype=np.int64) for name, shape in {**of_classes, **more}.items()}


def count_class(counts: Counts, scored: Scored, blank: bool) -> None:
    """Count what has nothing to do with places."""
    counts["images"][scored.record.label] += 1
    counts["blank"] += blank
    counts["unlike"] += scored.unlike
    if scored.rank is not None:
        counts["classified"] += 1
        counts["top1"][scored.record.label] += scored.rank == 0
        counts["top5"] += scored.rank < TOP_K


class BoxTally:
    """Counts an evaluation over boxes as it streams by.

    Args:
        interval: Step of the score thresholds.
        classes: Number of classes of the data.

    Attributes:
        counts: Arrays of int64, all that the figures are made of. T is the number of score thresholds.
            images, top1 (classes,): images, and those whose class was predicted; blank, classified, top5, unlike (1,);
            hits (classes, D, T), largest, centre, top1_loc, top5_loc (D, T); kinds (2, kinds of error, T), the second
            row of images whose class was not predicted.
    """

    def __init__(self, interval: float, classes: int) -> None:
        self.metric = MaxBoxAcc(interval)
        self._first_version = MaxBoxAcc(interval, contours="largest")
        self._centres: dict[tuple[int, int], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}
        table = self.metric.num_correct.shape
        shapes: dict[str, tuple[int, ...]] = {
            "hits": (classes, *table),
            **dict.fromkeys(("largest", "centre", "top1_loc", "top5_loc"), table),
            "kinds": (2, len(KINDS), table[1]),
        }
        self.counts = empty_counts(classes, shapes)

    def measure(self, scored: Scored, score_map: npt.NDArray[np.float64]) -> Measured:
        """Measure one image by its score map (H, W). Nothing is counted, so that any thread may do it.

        Raises:
            TypeError, ValueError: See `MaxBoxAcc.best_boxes`.
        """
        true = check_boxes(scored.record.boxes_at(score_map.shape[1], score_map.shape[0]))
        best = self.metric.best_boxes(score_map, true)
        largest = self._first_version.best_boxes(score_map, true)
        centre, _ = self._centre(score_map.shape)
        return Measured(
            scored=scored.without_map(),
            shape=score_map.shape,
            best=BestBoxes(best.iou, best.boxes.astype(np.int32), best.level),
            hits=self.metric.hits(best.iou),
            largest=self.metric.hits(largest.iou),
            centre=self.metric.hits(iou_of(centre, true).max(axis=1)),
            kinds=kinds_of_error(best.boxes, best.iou, true),
            blank=not score_map.any(),
        )

    def add(self, measured: Measured) -> None:
        """Count one image."""
        counts, scored, level = self.counts, measured.scored, measured.best.level
        hits = measured.hits[:, level]
        count_class(counts, scored, measured.blank)
        counts["hits"][scored.record.label] += hits
        counts["largest"] += measured.largest[:, level]
        _, place = self._centre(measured.shape)
        counts["centre"] += measured.centre[:, place]
        counts["kinds"][int(bool(scored.rank)), measured.kinds[level], np.arange(len(level))] += 1
        if scored.rank is not None:
            counts["top1_loc"] += hits & (scored.rank == 0)
            counts["top5_loc"] += hits & (scored.rank < TOP_K)

    def _centre(self, shape: tuple[int, int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the one box (L, 4) that a centred Gaussian has at each of its levels, and each threshold's level."""
        if shape not in self._centres:
            pixels = quantise(centre_gaussian(*shape))
            levels, place = self.metric.levels_of(int(pixels.max()))
            self._centres[shape] = np.concatenate([boxes_above(pixels, level) for level in levels.tolist()]), place
        return self._centres[shape]
