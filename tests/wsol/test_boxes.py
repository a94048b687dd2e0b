"""Boxes against an independent oracle that labels components and holes, and never traces a contour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from wsol.boxes import boxes_above, boxes_over_thresholds, quantise, thresholds

EIGHT = np.ones((3, 3), dtype=int)
few_levels = st.sampled_from([0, 1, 3, 100, 254, 255])
small_maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=few_levels)


def as_scores(pixels: np.ndarray) -> np.ndarray:
    return np.where(pixels == 0, 0.0, np.minimum((pixels + 0.5) / 255, 1))


def corners(mask: np.ndarray, grow: int, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box of a mask: far corner one past the last pixel, but inside the map."""
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    x1, y1 = int(columns[-1]) + grow + 1, int(rows[-1]) + grow + 1
    return int(columns[0]) - grow, int(rows[0]) - grow, min(x1, shape[1] - 1), min(y1, shape[0] - 1)


def oracle_all(foreground: np.ndarray) -> list[tuple[int, int, int, int]]:
    labels, count = ndimage.label(foreground, EIGHT)
    boxes = [corners(labels == label, 0, foreground.shape) for label in range(1, count + 1)]
    holes, count = ndimage.label(np.pad(~foreground, 1, constant_values=True))  # 4-connected; 1 is the outside
    outside = holes[0, 0]
    inner = [(holes == label)[1:-1, 1:-1] for label in range(1, count + 1) if label != outside]
    return sorted(boxes + [corners(hole, 1, foreground.shape) for hole in inner]) or [(0, 0, 0, 0)]


def polygon_area(mask: np.ndarray) -> float:
    """Area of the polygon through the border pixels' centres: 1 for each full 2x2 block, 1/2 for three of four."""
    blocks = mask[:-1, :-1].astype(int) + mask[1:, :-1] + mask[:-1, 1:] + mask[1:, 1:]
    return float((blocks == 4).sum() + 0.5 * (blocks == 3).sum())


def oracle_largest(foreground: np.ndarray) -> tuple[int, int, int, int]:
    labels, count = ndimage.label(foreground, EIGHT)
    filled = [ndimage.binary_fill_holes(labels == label) for label in range(1, count + 1)]
    if not filled:
        return (0, 0, 0, 0)
    best = max(filled, key=lambda mask: (polygon_area(mask), int(np.flatnonzero(mask)[0])))
    return corners(best, 0, foreground.shape)


@settings(max_examples=300, deadline=None)
@given(small_maps, st.integers(-1, 255))
def test_boxes_are_those_of_components_and_holes(pixels: np.ndarray, level: int) -> None:
    found = sorted(map(tuple, boxes_above(pixels, level).tolist()))
    assert found == oracle_all(pixels.astype(int) > level)


@settings(max_examples=300, deadline=None)
@given(small_maps, st.integers(-1, 255))
def test_the_largest_box_is_that_of_the_largest_filled_component(pixels: np.ndarray, level: int) -> None:
    [found] = boxes_above(pixels, level, "largest").tolist()
    assert tuple(found) == oracle_largest(pixels.astype(int) > level)


@settings(max_examples=100, deadline=None)
@given(small_maps, st.sampled_from([0.001, 0.01, 0.07, 0.3, 1.0]), st.sampled_from(["all", "largest"]))
def test_every_threshold_gets_the_boxes_of_its_own_level(pixels: np.ndarray, interval: float, contours: str) -> None:
    at = thresholds(interval)
    found = boxes_over_thresholds(as_scores(pixels), at, contours)
    assert len(found.foreground) == len(at)
    for index in range(0, len(at), max(len(at) // 40, 1)):
        level = int(at[index] * int(pixels.max()))
        np.testing.assert_array_equal(found.at(index), boxes_above(pixels, level, contours))


def test_contours_are_traced_once_for_each_different_foreground() -> None:
    pixels = np.array([[0, 10, 200], [0, 10, 200], [0, 10, 200]], dtype=np.uint8)
    found = boxes_over_thresholds(as_scores(pixels), thresholds(0.001))
    assert len(found.starts) == 2  # above 0 and above 10; the maximum itself is never a level


def test_a_ring_gives_its_outside_and_its_hole() -> None:
    pixels = np.zeros((12, 12), dtype=np.uint8)
    pixels[2:9, 2:9] = 9
    pixels[4:7, 4:7] = 0
    assert sorted(boxes_above(pixels, 0).tolist()) == [[2, 2, 9, 9], [3, 3, 8, 8]]
    assert boxes_above(pixels, 0, "largest").tolist() == [[2, 2, 9, 9]]


def test_scores_are_cut_to_eight_bits_not_rounded() -> None:
    scores = np.array([[0.0, 0.9999 / 255, 1 / 255, 254.999 / 255, 1.0]])
    assert quantise(scores).tolist() == [[0, 0, 1, 254, 255]]


@pytest.mark.parametrize(
    ("score_map", "error", "words"),
    [
        (np.zeros((4, 4), dtype=np.float32), TypeError, "float64, not float32"),
        (np.zeros((4, 4), dtype=np.uint8), TypeError, "float64, not uint8"),
        ([[0.0, 1.0]], TypeError, "numpy array, not list"),
        (np.array([[0.0, np.nan]]), ValueError, "NaN"),
        (np.array([[0.0, 1.0 + 1e-9]]), ValueError, r"in \[0, 1\]"),
        (np.array([[-1e-9, 1.0]]), ValueError, r"in \[0, 1\]"),
        (np.array([[0.0, np.inf]]), ValueError, r"in \[0, 1\]"),
        (np.zeros((1, 4, 4)), ValueError, r"not \(1, 4, 4\)"),
        (np.zeros(4), ValueError, r"not \(4,\)"),
        (np.zeros((0, 4)), ValueError, r"not \(0, 4\)"),
    ],
)
def test_a_wrong_score_map_is_refused(score_map: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        quantise(score_map)  # type: ignore[arg-type]
