"""Traced contours against an independent oracle that labels components and holes, and never traces one."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from wsol import kernels
from wsol.contours import boxes_above

EIGHT = np.ones((3, 3), dtype=int)
few_levels = st.sampled_from([0, 1, 3, 100, 254, 255])
small_maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=few_levels)


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


@settings(max_examples=300)
@given(small_maps, st.integers(-1, 255))
def test_boxes_are_those_of_components_and_holes(pixels: np.ndarray, level: int) -> None:
    found = sorted(map(tuple, boxes_above(pixels, level).tolist()))
    assert found == oracle_all(pixels.astype(int) > level)


@settings(max_examples=300)
@given(small_maps, st.integers(-1, 255))
def test_the_largest_box_is_that_of_the_largest_filled_component(pixels: np.ndarray, level: int) -> None:
    [found] = boxes_above(pixels, level, "largest").tolist()
    assert tuple(found) == oracle_largest(pixels.astype(int) > level)


def test_a_ring_gives_its_outside_and_its_hole() -> None:
    pixels = np.zeros((12, 12), dtype=np.uint8)
    pixels[2:9, 2:9] = 9
    pixels[4:7, 4:7] = 0
    assert sorted(boxes_above(pixels, 0).tolist()) == [[2, 2, 9, 9], [3, 3, 8, 8]]
    assert boxes_above(pixels, 0, "largest").tolist() == [[2, 2, 9, 9]]


def test_a_hole_never_stands_for_the_largest_contour() -> None:
    # A thin diamond, whose hole has a contour of the diamond's own area, and a rectangle of that area beside it, which
    # begins after the diamond and before the diamond's hole.
    pixels = np.zeros((8, 20), dtype=np.uint8)
    pixels[1:6, 2:7] = (np.abs(np.mgrid[-2:3, -2:3]).sum(axis=0) == 2) * 9
    pixels[1:4, 10:15] = 9
    tree, _ = cv2.findContours((pixels > 0).view(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    assert [cv2.contourArea(contour) for contour in tree] == [8, 8, 8]
    assert cv2.boundingRect(max(tree, key=cv2.contourArea)) == (10, 1, 5, 3)  # as the reference has it
    assert boxes_above(pixels, 0, "largest").tolist() == [[10, 1, 15, 4]]
    assert kernels.best_boxes(pixels, np.arange(256) == 0, np.ones((1, 4)), True)[1][0].tolist() == [10, 1, 15, 4]
