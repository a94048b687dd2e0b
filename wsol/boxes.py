"""Boxes of a score map: threshold it, trace the contours, take the bounding box of each.

This is the estimator of wsolevaluation (clovaai/wsolevaluation, commit 96f4b88), bit for bit. A map is cut to 8 bits,
so 1000 thresholds make at most 255 different foregrounds, and contours are traced once for each of those only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from pretrain.console import did_you_mean

Contours = Literal["all", "largest"]
NO_BOX = (0, 0, 0, 0)  # what the metric is given where nothing lies above the threshold


@dataclass(frozen=True)
class ThresholdBoxes:
    """The boxes of one score map at every threshold, each different foreground stored once.

    Attributes:
        boxes: (K, 4) int64, x0, y0, x1, y1 in pixels, one foreground after the other.
        starts: (F,) int64, the position in `boxes` of the first box of each foreground; every foreground has one.
        foreground: (T,) int64, the foreground, 0 to F - 1, of each threshold.
    """

    boxes: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    foreground: npt.NDArray[np.int64]

    def at(self, threshold: int) -> npt.NDArray[np.int64]:
        """Return the boxes (k, 4) at the threshold with this index."""
        stops = np.append(self.starts[1:], len(self.boxes))
        chosen = self.foreground[threshold]
        return self.boxes[self.starts[chosen] : stops[chosen]]


def thresholds(interval: float) -> npt.NDArray[np.float64]:
    """Return the thresholds 0, interval, 2 interval, ... below 1, as (T,) float64.

    Raises:
        ValueError: `interval` is not in (0, 1].
    """
    if not 0 < interval <= 1:
        raise ValueError(f"the interval of the thresholds is {interval}; it must be above 0 and at most 1")
    return np.arange(0, 1, interval, dtype=np.float64)


def check_contours(contours: str) -> Contours:
    """Return `contours` if it is a known choice, else raise ValueError."""
    for known in get_args(Contours):
        if contours == known:
            return known
    raise ValueError(f"unknown choice of contours '{contours}'{did_you_mean(str(contours), list(get_args(Contours)))}")


def quantise(score_map: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Check a score map and cut it to 8 bits; the fraction is dropped, not rounded.

    Args:
        score_map: (H, W) float64 with values in [0, 1].

    Returns:
        (H, W) uint8, contiguous.

    Raises:
        TypeError: Not an array of float64.
        ValueError: Not of two axes, empty, with a NaN, or with values outside [0, 1].
    """
    if not isinstance(score_map, np.ndarray):
        raise TypeError(f"a score map must be a numpy array, not {type(score_map).__name__}")
    if score_map.dtype != np.float64:
        raise TypeError(f"a score map must be float64, not {score_map.dtype}")
    if score_map.ndim != 2 or score_map.size == 0:
        raise ValueError(f"a score map must have the shape (height, width), not {score_map.shape}")
    low, high = score_map.min(), score_map.max()
    if np.isnan(low):
        raise ValueError("the score map holds NaN")
    if low < 0 or high > 1:
        raise ValueError(f"a score map's values must be in [0, 1]; these are from {low:.6g} to {high:.6g}")
    return np.ascontiguousarray((score_map * 255).astype(np.uint8))


def boxes_above(pixels: npt.NDArray[np.uint8], level: int, contours: Contours = "all") -> npt.NDArray[np.int64]:
    """Return the boxes of the pixels strictly above a level.

    Foreground is 8-connected. With "all", every contour gives a box: outer ones, nested ones, and those of holes, whose
    box is that of the 4-connected hole grown by one pixel to each side. With "largest", only the contour of the largest
    polygon area; among equals the component whose first pixel in raster order comes last.

    Args:
        pixels: (H, W) uint8.
        level: 0 to 255; -1 makes every pixel foreground.
        contours: "all" (MaxBoxAccV2) or "largest" (MaxBoxAcc, the first version).

    Returns:
        (k, 4) int64 with k >= 1: x0, y0 and, one past the last pixel but inside the map, x1, y1. Without foreground
        the one box is 0, 0, 0, 0.
    """
    binary = (pixels > level).view(np.uint8)
    # No contour inside another is larger than it, so for the largest one the outermost will do. The reference asks for
    # the tree of contours; the list holds the same ones.
    mode = cv2.RETR_LIST if contours == "all" else cv2.RETR_EXTERNAL
    found, _ = cv2.findContours(binary, mode, cv2.CHAIN_APPROX_SIMPLE)
    if not found:
        return np.array([NO_BOX], dtype=np.int64)
    if contours == "largest":
        # An outer contour starts at its component's first pixel in raster order, here as (x, y).
        found = [max(found, key=lambda contour: (cv2.contourArea(contour), contour[0, 0, 1], contour[0, 0, 0]))]
    boxes = np.array([cv2.boundingRect(contour) for contour in found], dtype=np.int64)  # x, y, width, height
    height, width = pixels.shape
    np.minimum(boxes[:, :2] + boxes[:, 2:], (width - 1, height - 1), out=boxes[:, 2:])
    return boxes


def boxes_over_thresholds(
    score_map: npt.NDArray[np.float64], at: npt.NDArray[np.float64], contours: Contours = "all"
) -> ThresholdBoxes:
    """Return the boxes of a score map at each threshold.

    A threshold is relative to the map's own maximum: its level is `int(t * max)` on the 8-bit map.

    Args:
        score_map: (H, W) float64 in [0, 1].
        at: (T,) float64, the thresholds in [0, 1).
        contours: See `boxes_above`.

    Raises:
        TypeError, ValueError: See `quantise`.
    """
    pixels = quantise(score_map)
    levels = (at * float(pixels.max())).astype(np.int64)
    # Two levels with no pixel value between them have the same foreground.
    values = np.flatnonzero(np.bincount(pixels.ravel()))
    ranks = np.searchsorted(values, levels, side="right")
    _, first, foreground = np.unique(ranks, return_index=True, return_inverse=True)
    found = [boxes_above(pixels, level, contours) for level in levels[first].tolist()]
    counts = np.array([len(boxes) for boxes in found])
    return ThresholdBoxes(np.concatenate(found), np.cumsum(counts) - counts, foreground.reshape(-1))
