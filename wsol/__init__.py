"""Weakly supervised object localisation: class activation maps and MaxBoxAccV2."""

from wsol.boxes import boxes_above, boxes_over_thresholds
from wsol.cam import class_activation_map
from wsol.metrics import MaxBoxAcc, MaxBoxAccResult, box_iou

__all__ = [
    "MaxBoxAcc",
    "MaxBoxAccResult",
    "box_iou",
    "boxes_above",
    "boxes_over_thresholds",
    "class_activation_map",
]
