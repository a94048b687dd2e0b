"""Boxes, thresholds and levels: what the metric takes in, checked.

The estimator is that of wsolevaluation (clovaai/wsolevaluation, commit 96f4b88), bit for bit. A map is cut to 8 bits,
so that a thousand thresholds are at most 255 different levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from pretrain.console import did_you_mean

Contours = Literal["all", "largest"]
LEVELS = 256
NO_BOX = (0, 0, 0, 0)  # what the metric is given where nothing lies above the threshold


class BoxError(RuntimeError, ValueError):
    """A box that is none. wsolevaluation raises RuntimeError for it; a wrong value is a ValueError elsewhere."""


@dataclass(frozen=True)
class BestBoxes:
    """The estimated box of the highest IoU with any true one, at every threshold; each level is kept once.

    Attributes:
        iou: (L,) float64, the IoU at each level.
        boxes: (L, 4) int, x0, y0, x1, y1 in pixels of the score map.
        level: (T,) int, the place of each threshold's level in the two.
    """

    iou: npt.NDArray[np.float64]
    boxes: npt.NDArray[np.int64]
    level: npt.NDArray[np.int64]


def thresholds(interval: float) -> npt.NDArray[np.float64]:
    """Return the thresholds 0, interval, 2 interval, ... below 1, as (T,) float64.

    Raises:
        ValueError: `interval` is not in (0, 1].
    """
    if not 0 < interval <= 1:
        raise ValueError(f"the interval of the thresholds is {interval}; it must be above 0 and at most 1")
    return np.arange(0, 1, interval, dtype=np.float64)


def levels_of(at: npt.NDArray[np.float64], maximum: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the different levels of thresholds, and the place of each threshold's own among them.

    A threshold t is relative to the map's own maximum: its level is `int(t * maximum)`, and the foreground is what lies
    strictly above.

    Args:
        at: (T,) float64, the thresholds in [0, 1).
        maximum: The map's highest pixel, 0 to 255.

    Returns:
        (L,) int64, rising, and (T,) int64.
    """
    levels, place = np.unique((at * float(maximum)).astype(np.int64), return_inverse=True)
    return levels, place.reshape(-1)


def check_contours(contours: str) -> Contours:
    """Return `contours` if it is a known choice, else raise ValueError."""
    for known in get_args(Contours):
        if contours == known:
            return known
    raise ValueError(f"unknown choice of contours '{contours}'{did_you_mean(str(contours), list(get_args(Contours)))}")


def check_score_map(score_map: npt.NDArray[np.float64]) -> None:
    """Refuse what wsolevaluation refuses as a score map, (H, W) float64 with values in [0, 1].

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


def quantise(score_map: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Check a score map and cut it to 8 bits; the fraction is dropped, not rounded.

    Returns:
        (H, W) uint8, contiguous.

    Raises:
        TypeError, ValueError: See `check_score_map`.
    """
    check_score_map(score_map)
    return np.ascontiguousarray((score_map * 255).astype(np.uint8))


def check_boxes(boxes: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return boxes as (n, 4) float64, in which pixel coordinates are exact; one box (4,) becomes (1, 4).

    Raises:
        BoxError: Another shape, no box, a NaN, a negative coordinate, or a far corner before the near one.
    """
    array = np.asarray(boxes, dtype=np.float64)
    array = array[None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[1] != 4 or len(array) == 0:
        raise BoxError(f"boxes must have the shape (n, 4) with n >= 1, not {np.shape(boxes)}")
    if not np.isfinite(array).all():
        raise BoxError("a box holds NaN or infinity")
    if (array < 0).any():
        raise BoxError(f"a box has a negative coordinate: {array[(array < 0).any(axis=1)][0].tolist()}")
    if (array[:, 2:] < array[:, :2]).any():
        wrong = array[(array[:, 2:] < array[:, :2]).any(axis=1)][0]
        raise BoxError(f"a box must be x0, y0, x1, y1 with x0 <= x1 and y0 <= y1, not {wrong.tolist()}")
    return array


def box_iou(first: npt.ArrayLike, second: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the intersection over union of every pair of boxes; both corners count as inside a box.

    Args:
        first: (n, 4), x0, y0, x1, y1 in pixels.
        second: (m, 4), likewise.

    Returns:
        (n, m) float64 in [0, 1].

    Raises:
        BoxError: See `check_boxes`.
    """
    overlap, first_areas, second_areas = overlaps(check_boxes(first), check_boxes(second))
    # Corners never cross, so that every box holds a pixel and the union is never 0.
    return np.asarray(overlap / (first_areas[:, None] + second_areas[None, :] - overlap))


def overlaps(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the area that each pair of boxes (n, 4) and (m, 4) shares, (n, m), and their own areas, (n,) and (m,)."""
    near = np.maximum(first[:, None, :2], second[None, :, :2])
    far = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.clip(far - near + 1, 0, None).prod(axis=2)
    own = [(boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1) for boxes in (first, second)]
    return shared, own[0], own[1]
