"""The figures of an evaluation, where theory fixes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from wsol.counting.figures import best_index, box_figures
from wsol.counting.tally import BoxTally, centre_gaussian
from wsol.maps.sources import Scored
from wsol.metadata import ImageRecord

SIDE = 40


def exact(box: list[int]) -> np.ndarray:
    """A score map whose estimated box is exactly `box`: the far corner is one past the last pixel."""
    score_map = np.zeros((SIDE, SIDE))
    score_map[box[1] : box[3], box[0] : box[2]] = 1.0
    return score_map


def count(
    interval: float,
    items: Sequence[tuple[np.ndarray, list[int], int | None]],
    labels: Sequence[int] | None = None,
    classes: int = 3,
) -> BoxTally:
    """Count images: a score map, the true box, and how many classes stand before the true one."""
    tally = BoxTally(interval, classes)
    for place, (score_map, box, rank) in enumerate(items):
        record = ImageRecord(f"{place}.jpg", labels[place] if labels else 0, (SIDE, SIDE), np.array([box]))
        tally.add(tally.measure(Scored(record, None, rank, rank), score_map))
    return tally


def figures(tally: BoxTally, val: BoxTally | None = None, predictions: int = 200) -> dict[str, Any]:
    return box_figures(tally, ["a", "b", "c"], val, predictions)


def of(*values: float) -> dict[str, float]:
    return dict(zip(("30", "50", "70", "mean"), [*values, sum(values) / 3]))


def test_maps_of_the_true_boxes_reach_100_and_the_corner_defeats_the_centre() -> None:
    corners = ([0, 0, 9, 9], [28, 1, 37, 9], [1, 27, 9, 35])
    found = figures(count(0.01, [(exact(box), box, 0) for box in corners]))
    assert found["max_box_acc_v2"] == found["max_box_acc_v1"] == found["top1_loc"] == of(100, 100, 100)
    assert found["centre_baseline"] == of(0, 0, 0)
    assert found["top1_cls"] == 100.0
    assert found["thresholds"] == np.arange(0, 1, 0.01).tolist()
    assert found["curve"] == {iou: [100.0] * 100 for iou in ("30", "50", "70")}
    assert found["errors"]["gt_known"]["correct"] == found["errors"]["top1"]["correct"] == 100.0
    assert found["chosen_on_val"] is None


def test_the_centre_finds_every_centred_square_and_a_blank_map_finds_nothing() -> None:
    # The same Gaussian for every image, but one threshold for all: each size alone is found.
    for half in range(3, 20):
        box = [20 - half, 20 - half, 19 + half, 19 + half]
        found = figures(count(0.001, [(np.zeros((SIDE, SIDE)), box, None)]))
        assert found["centre_baseline"]["70"] == 100.0
        assert found["max_box_acc_v2"]["mean"] == 0.0
        assert found["blank_maps"] == 1


def test_localisation_needs_the_class_and_the_box() -> None:
    box, other = [5, 5, 20, 20], [25, 25, 39, 39]
    ranks = [(box, 0), (box, 3), (other, 0), (box, 5), (box, 4), (other, 9), (box, 0), (other, 0)]
    found = figures(count(0.1, [(exact(estimate), box, rank) for estimate, rank in ranks]))
    assert found["max_box_acc_v2"]["mean"] == 62.5
    assert found["top1_cls"] == 50.0
    assert found["top5_cls"] == 75.0  # ranks 0 to 4
    assert found["top1_loc"] == of(25, 25, 25)
    assert found["top5_loc"] == of(50, 50, 50)
    top1 = found["errors"]["top1"]
    assert top1 == {"correct": 25.0, "wrong class": 50.0, "several objects": 0, "part": 0, "more": 0, "other": 25.0}
    assert found["errors"]["gt_known"] == {
        "correct": 62.5, "several objects": 0, "part": 0, "more": 0, "other": 37.5,
    }  # fmt: skip


def test_of_five_classes_there_are_no_top5_figures() -> None:
    tally = count(0.1, [(exact([5, 5, 20, 20]), [5, 5, 20, 20], 4)])
    assert figures(tally, predictions=5)["top5_cls"] is None
    assert figures(tally, predictions=5)["top5_loc"] is None
    assert figures(tally, predictions=6)["top5_cls"] == 100.0


def two_steps(low: list[int], high: list[int]) -> np.ndarray:
    """A map whose box is `low` below a threshold of one half and `high` from there on."""
    return np.maximum(0.5 * exact(low), exact(high))


def test_top1_is_taken_at_the_threshold_of_the_box_accuracy() -> None:
    # Low thresholds are right for the two images of wrong class, high ones for the one of right class.
    low, high = [0, 0, 38, 38], [10, 10, 20, 20]
    found = figures(count(0.25, [(two_steps(low, high), box, rank) for box, rank in ((low, 1), (low, 1), (high, 0))]))
    assert found["best_threshold"] == {"30": 0.0, "50": 0.0, "70": 0.0}
    assert found["max_box_acc_v2"]["mean"] == pytest.approx(200 / 3)
    assert found["top1_loc"]["mean"] == 0.0


def test_a_threshold_chosen_on_val_is_applied_as_it_is() -> None:
    low, high = [0, 0, 38, 38], [10, 10, 20, 20]
    maps = two_steps(low, high)
    val = count(0.25, [(maps, high, 0), (maps, high, 0), (maps, low, 0)])
    test = count(0.25, [(maps, low, 0), (maps, low, 1), (maps, high, 0), (maps, low, 0)])
    found = figures(test, val)
    assert found["max_box_acc_v2"] == of(75, 75, 75)  # the oracle takes the low threshold
    chosen = found["chosen_on_val"]
    assert chosen["threshold"] == {"30": 0.5, "50": 0.5, "70": 0.5}
    assert chosen["max_box_acc_v2"] == chosen["top1_loc"] == of(25, 25, 25)
    assert chosen["oracle_on_val"] == of(200 / 3, 200 / 3, 200 / 3)
    assert chosen["images"] == 3


def test_the_centre_has_a_threshold_of_its_own_on_val() -> None:
    small, large = [17, 17, 22, 22], [2, 2, 37, 37]
    blank = np.zeros((SIDE, SIDE))
    val = count(0.001, [(blank, small, None)])
    found = figures(count(0.001, [(blank, large, None)]), val)
    assert found["centre_baseline"]["70"] == 100.0
    assert found["chosen_on_val"]["centre_baseline"]["70"] == 0.0


def test_classes_are_told_apart_at_the_thresholds_of_the_whole() -> None:
    low, high = [0, 0, 38, 38], [10, 10, 20, 20]
    maps = two_steps(low, high)
    items = [(maps, low, 0), (maps, low, 1), (maps, high, 0), (maps, low, 0)]
    found = figures(count(0.25, items, labels=[0, 0, 2, 2]))
    assert found["per_class"] == [
        {"label": 0, "name": "a", "images": 2, "top1_cls": 50.0, "max_box_acc_v2": of(100, 100, 100)},
        {"label": 2, "name": "c", "images": 2, "top1_cls": 100.0, "max_box_acc_v2": of(50, 50, 50)},
    ]


def test_the_largest_contour_may_be_the_wrong_one() -> None:
    box, larger = [2, 2, 10, 10], [20, 20, 38, 38]
    found = figures(count(0.1, [(np.maximum(exact(box), exact(larger)), box, None)]))
    assert found["max_box_acc_v2"] == of(100, 100, 100)
    assert found["max_box_acc_v1"] == of(0, 0, 0)


def test_without_predictions_there_are_no_figures_of_classes() -> None:
    found = figures(count(0.1, [(exact([5, 5, 20, 20]), [5, 5, 20, 20], None)]))
    assert [found[name] for name in ("top1_cls", "top5_cls", "top1_loc", "top5_loc")] == [None] * 4
    assert found["errors"]["top1"] is None
    assert found["per_class"][0]["top1_cls"] is None


def test_counts_of_parts_add_up_to_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    items = [(rng.random((SIDE, SIDE)), [5, 6, 20 + place, 30], place % 3) for place in range(9)]
    labels = [place % 3 for place in range(9)]
    whole = count(0.01, items, labels)
    parts = [count(0.01, items[part::2], labels[part::2]) for part in (0, 1)]
    for name, counts in whole.counts.items():
        np.testing.assert_array_equal(counts, parts[0].counts[name] + parts[1].counts[name], err_msg=name)
    assert whole.counts["kinds"].sum() == 9 * 100  # every image is of one kind at every threshold
    assert best_index(whole, 50) == int(whole.counts["hits"].sum(axis=0)[1].argmax())


def test_the_gaussian_is_centred_and_follows_the_sides() -> None:
    gaussian = centre_gaussian(20, 40)
    np.testing.assert_array_equal(gaussian, gaussian[::-1, ::-1])
    assert 0 < gaussian.min() < gaussian.max() <= 1
    np.testing.assert_allclose(
        gaussian[:, 20] / gaussian[10, 20], centre_gaussian(20, 20)[:, 10] / centre_gaussian(20, 20)[10, 10]
    )
