"""Weakly supervised object localisation: class activation maps, MaxBoxAccV2 over boxes, PxAP over masks."""

from wsol.boxes import BoxError, box_iou
from wsol.contours import boxes_above
from wsol.maps.cam import class_activation_map
from wsol.metrics import MaxBoxAcc, MaxBoxAccResult
from wsol.pxap import PxAP, PxAPResult

__all__ = [
    "BoxError",
    "MaxBoxAcc",
    "MaxBoxAccResult",
    "PxAP",
    "PxAPResult",
    "box_iou",
    "boxes_above",
    "class_activation_map",
]
