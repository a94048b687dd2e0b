"""Weakly supervised object localisation: class activation maps and MaxBoxAccV2."""

from wsol.boxes import BoxError, box_iou
from wsol.contours import boxes_above
from wsol.maps.cam import class_activation_map
from wsol.metrics import MaxBoxAcc, MaxBoxAccResult

__all__ = [
    "BoxError",
    "MaxBoxAcc",
    "MaxBoxAccResult",
    "box_iou",
    "boxes_above",
    "class_activation_map",
]
