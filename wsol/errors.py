"""What is wrong with a box: the kinds of error of TS-CAM (Gao et al., ICCV 2021; its lib/cams_deit.py)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wsol.boxes import overlaps

KINDS = ("correct", "several objects", "part", "more", "other")
CORRECT, SEVERAL, PART, MORE, OTHER = range(len(KINDS))
IOU = 50  # percent; what is below is an error


def kinds_of_error(
    boxes: npt.NDArray[np.int64], iou: npt.NDArray[np.float64], true: npt.NDArray[np.float64]
) -> npt.NDArray[np.int8]:
    """Return what is wrong with each estimated box, as its place in `KINDS`.

    The first of these that holds: its IoU is at least one half, correct; more than 0.3 of each of two or more true
    boxes lies in it, several objects; more than half of it lies in the true box of the highest IoU, part of an object;
    at least 0.7 of that true box lies in it, more than the object; other.

    Args:
        boxes: (k, 4) int, x0, y0, x1, y1 in pixels.
        iou: (k,) float64, the best IoU of each with any true box.
        true: (n, 4) float64, the true boxes.

    Returns:
        (k,) int8.
    """
    shared, own, of_true = overlaps(boxes.astype(np.float64), true)
    nearest = (shared / (own[:, None] + of_true[None, :] - shared)).argmax(axis=1)
    rows = np.arange(len(boxes))
    of_truth, of_box = shared / of_true, shared / own[:, None]  # the share of each true box, and of the estimate
    kinds = np.select(
        [
            iou >= IOU / 100,
            (of_truth > 0.3).sum(axis=1) > 1,
            of_box[rows, nearest] > 0.5,
            of_truth[rows, nearest] >= 0.7,
        ],
        [CORRECT, SEVERAL, PART, MORE],
        OTHER,
    )
    return np.asarray(kinds.astype(np.int8))
