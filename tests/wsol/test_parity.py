"""Bit for bit the numbers of wsolevaluation's own code, on maps of many kinds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from wsol import MaxBoxAcc

CASES = Path(os.environ.get("WSOL_CASES", Path(__file__).parents[1] / "cases" / "wsol"))
EXPECTED = np.load(CASES / "expected.npz")
PIXELS = np.load(CASES / "maps.npz")
# The middle of each 8-bit step, so that cutting back to 8 bits cannot depend on rounding.
MAPS = [np.where(PIXELS[name] == 0, 0, np.minimum((PIXELS[name] + 0.5) / 255, 1)) for name in sorted(PIXELS.files)]
BOXES = [EXPECTED["gt_boxes"][EXPECTED["gt_index"] == index] for index in range(len(MAPS))]


@pytest.mark.parametrize("interval", EXPECTED["intervals"].tolist())
@pytest.mark.parametrize(("contours", "version"), [("largest", "v1"), ("all", "v2")])
def test_equals_the_reference(contours: str, version: str, interval: float) -> None:
    metric = MaxBoxAcc(interval, contours=contours)
    np.testing.assert_array_equal(metric.thresholds, EXPECTED[f"thresholds_iv{interval}"])
    for index, (score_map, boxes) in enumerate(zip(MAPS, BOXES)):
        expected = EXPECTED[f"best_iou_iv{interval}_{version}"][index]
        kind = str(EXPECTED["kinds"][index])
        np.testing.assert_array_equal(metric.best_iou(score_map, boxes), expected, err_msg=f"map {index}, {kind}")
        metric.update(score_map, boxes)
    np.testing.assert_array_equal(metric.num_correct, EXPECTED[f"num_correct_iv{interval}_{version}"])
    result = metric.compute()
    assert list(result.accuracy) == EXPECTED["iou_thresholds"].tolist()
    assert list(result.accuracy.values()) == EXPECTED[f"max_box_acc_iv{interval}_{version}"].tolist()
    assert result.images == len(MAPS)
