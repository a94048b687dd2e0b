"""The best box of a score map at every level, by tracing the contours of each level with OpenCV.

This is the estimator as it is defined. `wsol.kernels` finds the same several times faster; this stands in where numba
is missing, and holds it to the definition in tests.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from wsol.boxes import LEVELS, NO_BOX, Contours, box_iou


def best_boxes(
    pixels: npt.NDArray[np.uint8], wanted: npt.NDArray[np.bool_], true: npt.NDArray[np.float64], largest: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the best IoU of any estimated box with any true one at each wanted level, and that box.

    Arguments and results are those of `wsol.kernels.best_boxes`; each different foreground is traced once.
    """
    iou, boxes = np.zeros(LEVELS), np.zeros((LEVELS, 4), dtype=np.int64)
    levels = np.flatnonzero(wanted)
    # Two levels with no pixel value between them have the same foreground.
    values = np.flatnonzero(np.bincount(pixels.ravel()))
    _, first, place = np.unique(np.searchsorted(values, levels, side="right"), return_index=True, return_inverse=True)
    found = [boxes_above(pixels, level, "largest" if largest else "all") for level in levels[first].tolist()]
    if not found:
        return iou, boxes
    every, foreground = np.concatenate(found), np.repeat(np.arange(len(found)), [len(each) for each in found])
    of_box = box_iou(every, true).max(axis=1)
    order = np.lexsort((*every.T[::-1], -of_box, foreground))  # by foreground, then the best first
    best = order[np.searchsorted(foreground[order], np.arange(len(found)))]
    iou[levels], boxes[levels] = of_box[best][place], every[best][place]
    return iou, boxes


def boxes_above(pixels: npt.NDArray[np.uint8], level: int, contours: Contours = "all") -> npt.NDArray[np.int64]:
    """Return the boxes of the pixels strictly above a level.

    Foreground is 8-connected. With "all", every contour gives a box: outer ones, nested ones, and those of holes, whose
    box is that of the 4-connected hole grown by one pixel to each side. With "largest", only the contour of the largest
    polygon area; among equals the component whose first pixel in raster order comes last.

    Args:
        pixels: (H, W) uint8.
        level: 0 to 255; -1 makes every pixel foreground.
        contours: "all" (MaxBoxAccV2) or "largest" (MaxBoxAcc, the first version).

    Returns:
        (k, 4) int64 with k >= 1: x0, y0 and, one past the last pixel but inside the map, x1, y1. Without foreground
        the one box is 0, 0, 0, 0.
    """
    binary = (pixels > level).view(np.uint8)
    # No contour inside another is larger than it, so for the largest one the outermost will do. The reference asks for
    # the tree of contours; the list holds the same ones.
    mode = cv2.RETR_LIST if contours == "all" else cv2.RETR_EXTERNAL
    found, _ = cv2.findContours(binary, mode, cv2.CHAIN_APPROX_SIMPLE)
    if not found:
        return np.array([NO_BOX], dtype=np.int64)
    if contours == "largest":
        # An outer contour starts at its component's first pixel in raster order, here as (x, y).
        found = [max(found, key=lambda contour: (cv2.contourArea(contour), contour[0, 0, 1], contour[0, 0, 0]))]
    boxes = np.array([cv2.boundingRect(contour) for contour in found], dtype=np.int64)  # x, y, width, height
    height, width = pixels.shape
    np.minimum(boxes[:, :2] + boxes[:, 2:], (width - 1, height - 1), out=boxes[:, 2:])
    return boxes
