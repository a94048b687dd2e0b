"""What is known of one image, and the fingerprint of a whole set's boxes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ImageRecord:
    """One image of a split, with its boxes or with its masks.

    Attributes:
        image_id: Path of the image below the image folder, e.g. "001.Black_footed_Albatross/x.jpg".
        label: Index of its class in the data set, from 0.
        size: Width and height in pixels; (0, 0) where a set with masks does not say, as OpenImages.
        boxes: (n, 4) int64, x0, y0, x1, y1 in pixels of the original image. n >= 1 in a set with boxes, 0 in one
            with masks.
        masks: Paths of its objects' masks below the image folder, one or more in a set with masks.
        ignore: Path of the mask of what is left out of the count; "" where there is none.
    """

    image_id: str
    label: int
    size: tuple[int, int]
    boxes: npt.NDArray[np.int64]
    masks: tuple[str, ...] = ()
    ignore: str = ""

    def boxes_at(self, width: int, height: int) -> npt.NDArray[np.int64]:
        """Return the boxes on the image resized to width x height; coordinates are truncated, as in the reference."""
        if not len(self.boxes):
            return np.zeros((0, 4), dtype=np.int64)
        scaled = self.boxes * (width, height, width, height) / np.array(self.size * 2)
        return np.asarray(scaled.astype(np.int64))


def boxes_digest(records: Sequence[ImageRecord], size: int) -> str:
    """Return the SHA-256 of all boxes resized to size x size, as (n, 4) little-endian int64 in the records' order.

    For CUB's boxes at 224 it begins with e3557e61b70252ce (test) and f4c409fad6f81276 (wsolevaluation's val).
    """
    boxes = np.concatenate([record.boxes_at(size, size) for record in records])
    return hashlib.sha256(np.ascontiguousarray(boxes, dtype="<i8").tobytes()).hexdigest()
