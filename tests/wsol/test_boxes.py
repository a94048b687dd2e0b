"""What the metric takes in: levels, score maps and boxes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsol.boxes import BoxError, check_boxes, levels_of, quantise, thresholds


@given(st.sampled_from([0.001, 0.01, 0.07, 0.3, 1.0]), st.integers(0, 255))
def test_every_threshold_gets_its_own_level(interval: float, maximum: int) -> None:
    at = thresholds(interval)
    levels, place = levels_of(at, maximum)
    assert [int(levels[index]) for index in place] == [int(threshold * maximum) for threshold in at]
    assert levels.tolist() == sorted(set(levels.tolist()))
    assert levels[-1] < max(maximum, 1)  # the maximum itself is never a level


def test_scores_are_cut_to_eight_bits_not_rounded() -> None:
    scores = np.array([[0.0, 0.9999 / 255, 1 / 255, 254.999 / 255, 1.0]])
    assert quantise(scores).tolist() == [[0, 0, 1, 254, 255]]


def test_maps_of_any_order_in_memory_become_rows_for_the_kernels() -> None:
    scores = np.arange(12.0).reshape(3, 4) / 255
    for same in (np.asfortranarray(scores), np.repeat(scores, 2, axis=1)[:, ::2], scores[::-1][::-1]):
        found = quantise(same)
        assert found.flags.c_contiguous
        assert found.tolist() == quantise(scores).tolist()


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


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        ([[0, -1, 3, 3]], "negative"),
        ([[0, 0, 3]], "shape"),
        (np.zeros((0, 4)), "shape"),
        (np.zeros((1, 1, 4)), "shape"),
        ([[4, 0, 3, 3]], "x0 <= x1"),
        ([[0, 4, 3, 3]], "x0 <= x1"),
        ([[0, 0, 3, np.nan]], "NaN"),
        ([[0, 0, np.inf, 3]], "infinity"),
    ],
)
def test_a_wrong_box_is_refused_as_the_reference_does(boxes: object, words: str) -> None:
    with pytest.raises(RuntimeError, match=words):  # check_box_convention of wsolevaluation
        check_boxes(boxes)  # type: ignore[arg-type]
    assert issubclass(BoxError, ValueError)
    assert check_boxes([1, 2, 3, 4]).tolist() == [[1, 2, 3, 4]]
    assert check_boxes([[2, 2, 2, 2]]).shape == (1, 4)  # one pixel
