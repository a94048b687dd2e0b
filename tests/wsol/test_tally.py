"""The figures of an evaluation, where theory fixes them."""

from __future__ import annotations

import numpy as np
import pytest

from wsol.tally import Tally, centre_gaussian


def exact(box: list[int], side: int = 40) -> np.ndarray:
    """A score map whose estimated box is exactly `box`: the far corner is one past the last pixel."""
    score_map = np.zeros((side, side))
    score_map[box[1] : box[3], box[0] : box[2]] = 1.0
    return score_map


def test_maps_of_the_true_boxes_reach_100_and_the_corner_defeats_the_centre() -> None:
    tally = Tally(0.01)
    for box in ([0, 0, 9, 9], [28, 1, 37, 9], [1, 27, 9, 35]):
        tally.add(exact(box), np.array([box]), True)
    figures = tally.figures()
    assert figures["max_box_acc_v2"] == {"30": 100.0, "50": 100.0, "70": 100.0, "mean": 100.0}
    assert figures["centre_baseline"] == {"30": 0.0, "50": 0.0, "70": 0.0, "mean": 0.0}
    assert figures["top1_cls"] == 100.0
    assert figures["top1_loc"] == figures["max_box_acc_v2"]
    assert figures["thresholds"] == np.arange(0, 1, 0.01).tolist()
    assert figures["curve"] == {iou: [100.0] * 100 for iou in ("30", "50", "70")}


def test_the_centre_finds_every_centred_square_and_a_blank_map_finds_nothing() -> None:
    # The same Gaussian for every image, but one threshold for all: each size alone is found.
    for half in range(3, 20):
        tally = Tally(0.001)
        tally.add(np.zeros((40, 40)), np.array([[20 - half, 20 - half, 19 + half, 19 + half]]), None)
        figures = tally.figures()
        assert figures["centre_baseline"]["70"] == 100.0
        assert figures["max_box_acc_v2"]["mean"] == 0.0
        assert figures["blank_maps"] == 1


def test_top1_localisation_needs_the_class_and_the_box() -> None:
    box, other = [5, 5, 20, 20], [25, 25, 39, 39]
    tally = Tally(0.1)
    for found, right in ((box, True), (box, False), (other, True), (box, True)):
        tally.add(exact(found), np.array([box]), right)
    figures = tally.figures()
    assert figures["max_box_acc_v2"]["mean"] == 75.0
    assert figures["top1_cls"] == 75.0
    assert figures["top1_loc"] == {"30": 50.0, "50": 50.0, "70": 50.0, "mean": 50.0}


def test_top1_is_taken_at_the_threshold_of_the_box_accuracy() -> None:
    # Low thresholds are right for the two images of wrong class, high ones for the one of right class.
    low, high = [0, 0, 38, 38], [10, 10, 20, 20]
    both = np.maximum(0.5 * exact(low), exact(high))
    tally = Tally(0.25)
    for box, right in ((low, False), (low, False), (high, True)):
        tally.add(both, np.array([box]), right)
    figures = tally.figures()
    assert figures["best_threshold"] == {"30": 0.0, "50": 0.0, "70": 0.0}
    assert figures["max_box_acc_v2"]["mean"] == pytest.approx(200 / 3)
    assert figures["top1_loc"]["mean"] == 0.0


def test_without_predictions_there_are_no_top1_figures() -> None:
    tally = Tally(0.1)
    tally.add(exact([5, 5, 20, 20]), np.array([[5, 5, 20, 20]]))
    assert tally.figures()["top1_cls"] is None
    assert tally.figures()["top1_loc"] is None


def test_the_gaussian_is_centred_and_follows_the_sides() -> None:
    gaussian = centre_gaussian(20, 40)
    np.testing.assert_array_equal(gaussian, gaussian[::-1, ::-1])
    assert 0 < gaussian.min() < gaussian.max() <= 1
    np.testing.assert_allclose(
        gaussian[:, 20] / gaussian[10, 20], centre_gaussian(20, 20)[:, 10] / centre_gaussian(20, 20)[10, 10]
    )
