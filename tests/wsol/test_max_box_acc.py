"""IoU by counting pixels, and the aggregation by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsol import MaxBoxAcc, box_iou
from wsol.contours import boxes_above

SIDE = 12
box = st.tuples(*[st.integers(0, SIDE - 1)] * 4).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)


def painted(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def square(low: int, high: int, value: float = 1.0) -> np.ndarray:
    score_map = np.zeros((SIDE, SIDE))
    score_map[low:high, low:high] = value
    return score_map


@settings(max_examples=100)
@given(st.lists(box, min_size=1, max_size=4), st.lists(box, min_size=1, max_size=4))
def test_iou_is_shared_pixels_over_all_pixels(first: list, second: list) -> None:
    expected = [[(painted(*a) & painted(*b)).sum() / (painted(*a) | painted(*b)).sum() for b in second] for a in first]
    np.testing.assert_array_equal(box_iou(first, second), expected)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 255), min_size=SIDE * SIDE, max_size=SIDE * SIDE), st.lists(box, min_size=1, max_size=3))
def test_best_iou_is_the_best_pair_at_each_threshold(values: list, true: list) -> None:
    pixels = np.array(values, dtype=np.uint8).reshape(SIDE, SIDE)
    metric = MaxBoxAcc(0.13)
    best = metric.best_iou(np.where(pixels == 0, 0, np.minimum((pixels + 0.5) / 255, 1)), true)
    for index, threshold in enumerate(metric.thresholds):
        found = boxes_above(pixels, int(threshold * int(pixels.max())))
        assert best[index] == box_iou(found, true).max()


def test_the_mean_over_images_comes_before_the_maximum_over_thresholds() -> None:
    # One image is right only below half of its maximum, the other only above: no threshold serves both.
    inner_and_outer = np.maximum(square(1, 11, 0.4), square(4, 7))
    metric = MaxBoxAcc(0.01)
    metric.update(inner_and_outer, [[1, 1, 11, 11]])
    metric.update(inner_and_outer, [[4, 4, 7, 7]])
    result = metric.compute()
    assert result.accuracy == {30: 50.0, 50: 50.0, 70: 50.0}
    assert result.mean == 50.0
    assert result.curve.shape == (3, 100)
    assert result.best_threshold == {30: 0.0, 50: 0.0, 70: 0.0}


def test_each_iou_threshold_has_its_own_best_score_threshold() -> None:
    # Above 0 the estimate is the big square, 121/225 of it true; above 0.4 it is exactly the true box.
    metric = MaxBoxAcc(0.1, iou_thresholds=(50, 70))
    metric.update(np.maximum(square(0, 12, 0.4), square(0, 8)), [[0, 0, 8, 8]])
    result = metric.compute()
    assert metric.best_iou(square(0, 12), [[0, 0, 8, 8]])[0] == 81 / 144
    assert result.accuracy == {50: 100.0, 70: 100.0}
    assert result.best_threshold == {50: 0.0, 70: 0.4}


def test_an_iou_equal_to_its_threshold_counts() -> None:
    metric = MaxBoxAcc(1.0, iou_thresholds=(0, 50, 51))
    metric.update(square(0, 11), [[0, 0, 11, 5]])  # half of the 12 x 12 pixels
    assert metric.compute().accuracy == {0: 100.0, 50: 100.0, 51: 0.0}


def test_one_by_one_is_the_same_as_in_one_go() -> None:
    rng = np.random.default_rng(0)
    maps = rng.random((6, SIDE, SIDE))
    boxes = [[[1, 2, 8, 9]], [[0, 0, 3, 3], [5, 5, 11, 11]]] * 3
    streamed = MaxBoxAcc(0.05)
    for score_map, true in zip(maps, boxes):
        streamed.update(score_map, true)
    best = np.stack([MaxBoxAcc(0.05).best_iou(score_map, true) for score_map, true in zip(maps, boxes)])
    curve = 100 * np.stack([(best >= delta).mean(axis=0) for delta in (0.3, 0.5, 0.7)])
    result = streamed.compute()
    np.testing.assert_allclose(result.curve, curve, rtol=1e-15)
    assert result.mean == pytest.approx(curve.max(axis=1).mean())
    before = streamed.num_correct.copy()
    streamed.best_iou(maps[0], boxes[0])
    np.testing.assert_array_equal(streamed.num_correct, before)


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([[-1, 0, 3, 3]], "negative"),
        ([[4, 0, 3, 3]], "x0 <= x1"),
        ([[0, 4, 3, 3]], "y0 <= y1"),
        ([[0, 0, 3]], r"shape \(n, 4\)"),
        (np.zeros((0, 4)), r"shape \(n, 4\)"),
        (np.zeros((1, 1, 4)), r"shape \(n, 4\)"),
        ([[0, 0, np.nan, 3]], "NaN"),
    ],
)
def test_wrong_boxes_are_refused_and_nothing_is_counted(boxes: object, words: str) -> None:
    metric = MaxBoxAcc(0.1)
    with pytest.raises(ValueError, match=words):
        metric.update(square(2, 5), boxes)  # type: ignore[arg-type]
    assert metric.images == 0
    assert not metric.num_correct.any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"interval": 0}, "interval"),
        ({"interval": 1.5}, "interval"),
        ({"interval": float("nan")}, "interval"),
        ({"iou_thresholds": ()}, "IoU thresholds"),
        ({"iou_thresholds": (50, 50)}, "differ"),
        ({"iou_thresholds": (50, 101)}, "percent"),
        ({"iou_thresholds": (-1, 50)}, "percent"),
        ({"contours": "larges"}, "did you mean 'largest'"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        MaxBoxAcc(**arguments)


def test_compute_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="no image"):
        MaxBoxAcc().compute()
