"""The kinds of error, on boxes that can be checked by hand; both corners lie inside a box."""

from __future__ import annotations

import numpy as np
import pytest

from wsol.boxes import box_iou
from wsol.errors import KINDS, kinds_of_error

ONE = [[10, 10, 19, 19]]  # 100 pixels
TWO = [[0, 0, 9, 9], [20, 0, 29, 9]]


@pytest.mark.parametrize(
    ("true", "box", "kind"),
    [
        (ONE, [10, 10, 19, 19], "correct"),
        (ONE, [10, 10, 19, 14], "correct"),  # IoU 0.5 exactly
        (ONE, [10, 10, 19, 13], "part"),
        (ONE, [6, 10, 13, 19], "other"),  # half of the box lies in the object, no more
        (ONE, [7, 10, 14, 19], "part"),  # 5 of 8 columns, IoU 50 / 130
        (ONE, [0, 0, 39, 39], "more"),
        (ONE, [13, 10, 29, 19], "more"),  # 0.7 of the object exactly, IoU 70 / 200
        (ONE, [14, 10, 29, 19], "other"),
        (ONE, [30, 30, 35, 35], "other"),
        (TWO, [0, 0, 29, 9], "several objects"),
        (TWO, [7, 0, 22, 9], "other"),  # 0.3 of each, no more
        (TWO, [6, 0, 23, 9], "several objects"),
        (TWO, [0, 0, 9, 9], "correct"),
        (TWO, [0, 0, 22, 9], "more"),  # all of the first, 0.3 of the second; IoU 100 / 230
        ([[0, 0, 99, 99], [10, 10, 19, 19]], [10, 10, 34, 19], "more"),  # nearest by IoU, 100 / 250, is the small one
        ([[0, 0, 9, 9], [2, 2, 5, 5]], [2, 2, 6, 6], "correct"),  # the small one of two, one in the other
    ],
)
def test_a_box_is_of_the_first_kind_that_holds(true: list[list[int]], box: list[int], kind: str) -> None:
    truth = np.array(true, dtype=np.float64)
    iou = box_iou([box], truth).max(axis=1)
    assert KINDS[kinds_of_error(np.array([box]), iou, truth)[0]] == kind


def test_many_boxes_at_once() -> None:
    boxes = np.array([[10, 10, 19, 19], [0, 0, 39, 39], [30, 30, 35, 35]])
    truth = np.array(ONE, dtype=np.float64)
    kinds = kinds_of_error(boxes, box_iou(boxes, truth).max(axis=1), truth)
    assert [KINDS[kind] for kind in kinds] == ["correct", "more", "other"]
