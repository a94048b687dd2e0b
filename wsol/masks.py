"""Masks of a set without boxes, such as OpenImages: one image an instance, and one of the regions to ignore."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pretrain.console import UserError
from wsol.pxap import IGNORED, OBJECT


def read_mask(root: str | Path, masks: Sequence[str], ignore: str, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Return the mask of an image: the union of its instances, and what to leave out of the count.

    The pixels are those of wsolevaluation (clovaai/wsolevaluation, commit 96f4b88, evaluation.py), which reads and
    resizes by OpenCV. Pillow would give others: its nearest pixel is floor((x + 0.5) * scale), OpenCV's
    floor(x * scale); it takes the index of a palette for a grey value unless told otherwise, caps 16 bits at 255 where
    OpenCV drops the lower 8, and rounds dark colours up to 1 where OpenCV gives 0.

    Args:
        root: Folder of the masks.
        masks: Files under `root`, one an instance; any grey value above 0 is object.
        ignore: File under `root`, likewise for the region to ignore; "" where there is none. Objects come first: what
            both cover is object.
        size: Width and height to resize to, those of the score map, pixels.

    Returns:
        (height, width) uint8: 1 object, 0 background, 255 ignored.

    Raises:
        UserError: No instance is named, or a file is missing, damaged or no image.
    """
    if not masks:
        raise UserError(f"{root}: an image without a mask; name one or more files for each image, or leave it out")
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    if ignore:
        pixels[_foreground(Path(root) / ignore, size)] = IGNORED
    for mask in masks:
        pixels[_foreground(Path(root) / mask, size)] = OBJECT
    return pixels


def _foreground(path: Path, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    if not path.is_file():
        raise UserError(f"{path}: no such mask; fetch the masks again, or check the folder of masks")
    try:
        # OpenCV reads a JPEG that is cut short without a word, and fills up the rest.
        with Image.open(path) as image:
            image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a whole image ({error}); fetch the mask again") from error
    grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise UserError(f"{path}: OpenCV cannot read this mask; fetch it again, or save it as PNG")
    foreground: npt.NDArray[np.bool_] = cv2.resize(grey, size, interpolation=cv2.INTER_NEAREST) > 0
    return foreground
