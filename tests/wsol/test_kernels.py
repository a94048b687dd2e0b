"""The one pass against contours traced at every level: the same IoU to the last bit, and the same boxes."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wsol import MaxBoxAcc, contours, kernels
from wsol.boxes import LEVELS

few_levels = st.sampled_from([0, 1, 3, 100, 254, 255])
small_maps = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=few_levels)
corners = st.tuples(*[st.integers(0, 9)] * 4).map(
    lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])]
)
true_boxes = st.lists(corners, min_size=1, max_size=3).map(lambda boxes: np.array(boxes, dtype=np.float64))
ALL = np.arange(LEVELS) < LEVELS - 1


def assert_same(pixels: np.ndarray, true: np.ndarray, wanted: np.ndarray = ALL) -> None:
    for largest in (False, True):
        iou, boxes = kernels.best_boxes(pixels, wanted, true, largest)
        expected_iou, expected_boxes = contours.best_boxes(pixels, wanted, true, largest)
        np.testing.assert_array_equal(iou, expected_iou, err_msg=f"largest={largest}")
        np.testing.assert_array_equal(boxes, expected_boxes, err_msg=f"largest={largest}")


@settings(max_examples=400)
@given(small_maps, true_boxes)
def test_small_maps(pixels: np.ndarray, true: np.ndarray) -> None:
    assert_same(pixels, true)


@settings(max_examples=100)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24))), true_boxes)
def test_maps_of_noise(pixels: np.ndarray, true: np.ndarray) -> None:
    assert_same(pixels, true)


@settings(max_examples=50)
@given(small_maps, true_boxes, hnp.arrays(np.bool_, LEVELS))
def test_levels_that_are_not_wanted_change_nothing(pixels: np.ndarray, true: np.ndarray, wanted: np.ndarray) -> None:
    assert_same(pixels, true, wanted & ALL)


def rings(side: int) -> np.ndarray:
    """Rings within rings, each higher than the one about it."""
    away = np.minimum.outer(np.minimum(np.arange(side), np.arange(side)[::-1]), np.full(side, side))
    depth = np.minimum(away, away.T)
    return np.where(depth % 2 == 1, 40 + 7 * depth, 0).astype(np.uint8)


def bowl(side: int) -> np.ndarray:
    """Low in the middle and high at the rim, with a gap: a hole that opens at the gap's level."""
    rows, columns = np.mgrid[:side, :side] - side // 2
    pixels = np.minimum(np.hypot(rows, columns) * 500 / side, 255).astype(np.uint8)
    pixels[side // 2, side // 2 :] = np.minimum(pixels[side // 2, side // 2 :], 120)
    return pixels


def spots(*places: tuple[int, int, int]) -> np.ndarray:
    pixels = np.zeros((40, 40), dtype=np.uint8)
    for y, x, value in places:
        pixels[y : y + 5, x : x + 5] = value
    return pixels


RNG = np.random.default_rng(7)
KINDS = {
    "zero": np.zeros((20, 30), dtype=np.uint8),
    "constant": np.full((20, 30), 200, dtype=np.uint8),
    "one pixel": np.array([[9]], dtype=np.uint8),
    "one pixel of many": np.pad(np.array([[255]], dtype=np.uint8), ((3, 9), (12, 2))),
    "a row": RNG.integers(0, 256, (1, 50)).astype(np.uint8),
    "a column": RNG.integers(0, 256, (50, 1)).astype(np.uint8),
    "two rows": RNG.integers(0, 256, (2, 50)).astype(np.uint8),
    "checkerboard": (np.indices((20, 20)).sum(axis=0) % 2 * 255).astype(np.uint8),
    "checkerboard of two levels": (np.indices((20, 20)).sum(axis=0) % 2 * 55 + 200).astype(np.uint8),
    "rings": rings(41),
    "bowl": bowl(61),
    "diamond with a hole": (np.abs(np.mgrid[-9:10, -9:10]).sum(axis=0) == 5).astype(np.uint8) * 90,
    "equal areas": spots((2, 2, 100), (2, 20, 100), (20, 30, 100), (30, 10, 100)),
    "equal areas, other levels": spots((2, 2, 90), (2, 20, 250), (20, 30, 120), (30, 10, 250)),
    "lines of no area": np.where(np.arange(30)[:, None] % 3 == 0, np.arange(30)[None, :] % 7 * 30, 0).astype(np.uint8),
    "frame": np.pad(np.zeros((10, 10), dtype=np.uint8), 1, constant_values=255),
}


@pytest.mark.parametrize("name", KINDS)
def test_degenerate_maps(name: str) -> None:
    pixels = KINDS[name]
    for true in ([[0, 0, 0, 0]], [[3, 2, 11, 9], [1, 1, 4, 30]], [[0, 0, pixels.shape[1] - 1, pixels.shape[0] - 1]]):
        assert_same(pixels, np.array(true, dtype=np.float64))


@pytest.mark.parametrize("side", [7, 14, 28])
def test_maps_like_those_of_networks(side: int) -> None:
    for _ in range(4):
        small = RNG.standard_normal((side, side))
        cam = cv2.resize(small, (120, 90), interpolation=cv2.INTER_CUBIC)
        pixels = ((cam - cam.min()) / np.ptp(cam) * 255).astype(np.uint8)
        near, far = RNG.integers(0, 45, (3, 2)), RNG.integers(45, 90, (3, 2))
        assert_same(pixels, np.concatenate([near, far], axis=1).astype(np.float64))


def test_of_boxes_with_the_same_iou_the_first_in_order_is_given() -> None:
    pixels = spots((10, 24, 100), (10, 4, 100))  # as far from the true box, to its right and to its left
    for find in (kernels.best_boxes, contours.best_boxes):
        iou, boxes = find(pixels, ALL, np.array([[6.0, 8, 27, 17]]), False)
        assert boxes[50].tolist() == [4, 10, 9, 15]
        assert iou[50] == 24 / (22 * 10 + 36 - 24)


def test_a_side_too_long_for_four_coordinates_in_a_number_goes_by_contours() -> None:
    score_map = np.zeros((1, 40_000))
    score_map[0, 35_000:36_000] = 1.0
    best = MaxBoxAcc(0.5).best_boxes(score_map, [[35_000, 0, 36_000, 0]])
    assert best.boxes.tolist() == [[35_000, 0, 36_000, 0]] * 2
    assert best.iou.tolist() == [1.0, 1.0]


def test_where_no_folder_may_be_written_to_the_kernels_are_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caching = pytest.importorskip("numba.core.caching")
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])

    def sum_of(values: np.ndarray) -> int:
        total = 0
        for value in values:
            total += value
        return total

    with pytest.raises(RuntimeError, match="cannot cache"):
        kernels.numba.njit(cache=True)(sum_of)
    assert kernels.compiled(sum_of)(np.arange(10)) == 45


def test_without_numba_the_metric_is_the_same_by_contours() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np\n"
        "from wsol import MaxBoxAcc, kernels\n"
        "assert not kernels.AVAILABLE\n"
        "print(MaxBoxAcc(0.1).best_iou(np.linspace(0, 1, 400).reshape(20, 20), [[3, 4, 19, 19]]).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = MaxBoxAcc(0.1).best_iou(np.linspace(0, 1, 400).reshape(20, 20), [[3, 4, 19, 19]])
    assert done.stdout.strip() == str(expected.tolist())
