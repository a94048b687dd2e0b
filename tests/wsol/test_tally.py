"""The figures of an evaluation, where theory fixes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from wsol.counting.figures import best_index, box_figures
from wsol.counting.rows import row_of
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
        assert max(found["centre_curve"]["70"]) == 100.0
        assert found["max_box_acc_v2"]["mean"] == max(found["curve"]["30"]) == 0.0
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
    found = figures(count(0.25, [(two_steps(low, high), box, rank) for box, rank in ((low, 5), (low, 5), (high, 0))]))
    assert found["best_threshold"] == {"30": 0.0, "50": 0.0, "70": 0.0}
    assert found["max_box_acc_v2"]["mean"] == pytest.approx(200 / 3)
    assert found["top1_loc"]["mean"] == found["top5_loc"]["mean"] == 0.0


def test_a_threshold_chosen_on_val_is_applied_as_it_is() -> None:
    low, high = [0, 0, 38, 38], [10, 10, 20, 20]
    maps = two_steps(low, high)
    val = count(0.25, [(maps, high, 0), (maps, high, 0), (maps, low, 0)])
    test = count(0.25, [(maps, low, 0), (maps, low, 1), (maps, high, 3), (maps, low, 0)])
    found = figures(test, val)
    assert found["max_box_acc_v2"] == of(75, 75, 75)  # the oracle takes the low threshold
    chosen = found["chosen_on_val"]
    assert chosen["threshold"] == {"30": 0.5, "50": 0.5, "70": 0.5}
    assert chosen["max_box_acc_v2"] == chosen["top5_loc"] == of(25, 25, 25)
    assert chosen["top1_loc"] == of(0, 0, 0)
    assert chosen["oracle_on_val"] == of(200 / 3, 200 / 3, 200 / 3)
    assert chosen["images"] == 3


def test_the_centre_has_a_threshold_of_its_own_on_val() -> None:
    small, large = [17, 17, 22, 22], [2, 2, 37, 37]
    blank = np.zeros((SIDE, SIDE))
    val = count(0.001, [(blank, small, None)])
    found = figures(count(0.001, [(blank, large, None)]), val)
    assert found["centre_baseline"]["70"] == 100.0
    assert found["chosen_on_val"]["centre_baseline"]["70"] == 0.0


def test_errors_are_counted_at_the_threshold_that_is_best_for_50() -> None:
    around, box = [5, 5, 24, 24], [10, 10, 20, 20]  # IoU 121 / 400
    found = figures(count(0.25, [(two_steps(around, box), box, None)]))
    assert found["best_threshold"] == {"30": 0.0, "50": 0.5, "70": 0.5}
    assert (found["errors"]["iou"], found["errors"]["threshold"]) == (50, 0.5)
    assert found["errors"]["gt_known"]["correct"] == 100.0


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
    lower = figures(count(0.25, [(np.maximum(exact(box), 0.5 * exact(larger)), box, None)]))
    assert lower["max_box_acc_v2"] == lower["max_box_acc_v1"] == of(100, 100, 100)
    assert lower["best_threshold"]["50"] == 0.0
    assert lower["best_threshold_v1"] == {"30": 0.5, "50": 0.5, "70": 0.5}
    assert found["blank_maps"] == 0  # 0 in most places, and not in all


def test_without_predictions_there_are_no_figures_of_classes() -> None:
    found = figures(count(0.1, [(exact([5, 5, 20, 20]), [5, 5, 20, 20], None)]))
    assert [found[name] for name in ("top1_cls", "top5_cls", "top1_loc", "top5_loc")] == [None] * 4
    assert found["errors"]["top1"] is None
    assert found["per_class"][0]["top1_cls"] is None
    assert (
        count(0.1, [(exact([5, 5, 20, 20]), [5, 5, 20, 20], None)]).counts["kinds"][1].sum() == 0
    )  # not a wrong class
    items = [(exact([5, 5, 20, 20]), [5, 5, 20, 20], rank) for rank in (0, None)]
    assert figures(count(0.1, items))["top1_cls"] is None  # nor where one image has none


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


def test_a_row_says_what_came_of_an_image_at_a_threshold() -> None:
    low, high = [0, 0, 38, 38], [10, 10, 20, 20]
    record = ImageRecord("x.jpg", 1, (SIDE, SIDE), np.array([low]))
    tally = BoxTally(0.25, 3)
    score_map = two_steps(low, high) * 2.5 / 255  # pixels of 0, 1 and 2: four thresholds and two levels

    def row(place: int, rank: int | None, predicted: int | None) -> dict[str, Any]:
        measured = tally.measure(Scored(record, None, rank, predicted), score_map)
        return row_of(measured, place, ["a", "b", "c"], ["u", "v", "w", "x"])

    of_image = {"image_id": "x.jpg", "label": 1, "class": "b"}
    right = {"iou": 1.0, "box": low, "error": "correct"}
    part = {"iou": 11 * 11 / (39 * 39), "box": high, "error": "part"}
    assert row(0, 0, 3) == {**of_image, **right, "predicted": "x", "top1": True, "top5": True}
    assert row(1, 4, 0) == {**of_image, **right, "predicted": "u", "top1": False, "top5": True}
    assert row(2, 5, 2) == {**of_image, **part, "predicted": "w", "top1": False, "top5": False}
    assert row(3, None, None) == {**of_image, **part, "predicted": None, "top1": None, "top5": None}


def test_maps_need_not_be_square_nor_of_one_size() -> None:
    # Boxes are given in an image of 20 x 10 pixels, and the maps are twice and twenty times as large.
    record = ImageRecord("a.jpg", 0, (20, 10), np.array([[12, 2, 18, 6]]))
    tally = BoxTally(0.1, 1)
    for scale in (2, 20):
        score_map = np.zeros((10 * scale, 20 * scale))
        score_map[2 * scale : 6 * scale, 12 * scale : 18 * scale] = 1.0
        measured = tally.measure(Scored(record, partial(np.zeros, (1, 1))), score_map)
        assert measured.best.iou.tolist() == [1.0] * 10
        assert measured.best.boxes.tolist() == [[12 * scale, 2 * scale, 18 * scale, 6 * scale]] * 10
        with pytest.raises(ValueError, match=r"a\.jpg: its score map was not kept"):
            measured.scored.score_map()  # so that maps do not gather in memory
        tally.add(measured)
    assert box_figures(tally, ["a"], None, 0)["max_box_acc_v2"] == of(100, 100, 100)
    centred = ImageRecord("b.jpg", 0, (20, 10), np.array([[5, 2, 15, 8]]))
    tally = BoxTally(0.01, 1)
    for scale in (10, 3):
        tally.add(tally.measure(Scored(centred, None), np.zeros((10 * scale, 20 * scale))))
    assert box_figures(tally, ["a"], None, 0)["centre_baseline"]["70"] == 100.0


def test_the_gaussian_is_centred_and_follows_the_sides() -> None:
    gaussian = centre_gaussian(20, 40)
    np.testing.assert_array_equal(gaussian, gaussian[::-1, ::-1])
    assert 0 < gaussian.min() < gaussian.max() <= 1
    np.testing.assert_allclose(
        gaussian[:, 20] / gaussian[10, 20], centre_gaussian(20, 20)[:, 10] / centre_gaussian(20, 20)[10, 10]
    )
