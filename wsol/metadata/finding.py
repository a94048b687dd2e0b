"""Finding an image by its id, wherever the data folder keeps it."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path, PurePosixPath

from PIL import Image

from pretrain.console import UserError

# Below a data folder: CUB_200_2011 has images/, wsolevaluation's own folders have none, and tools/prepare_cub.py
# arranges train/, val/ (CUB's test images) and cubv2/ (wsolevaluation's val).
PLACES = ("images", "", "train", "val", "cubv2")


def find_image(root: str | Path, image_id: str) -> Path:
    """Return the path of an image.

    It lies below ROOT/images, ROOT itself, or ROOT/{train,val,cubv2}. ILSVRC's `val/NAME` is also found where
    tools/prepare_imagenet.py put it, in its class's folder, ROOT/val/CLASS/NAME.

    Raises:
        UserError: It is in none of these places.
    """
    path = look_for(Path(root), image_id)
    if path is None:
        raise UserError(f"{Path(root) / 'images' / image_id}: no such image; is {root} the right data folder?")
    return path


def look_for(root: Path, image_id: str) -> Path | None:
    """Return the path of an image, or of a mask, or None; see `find_image`."""
    for place in PLACES:
        if (path := root / place / image_id).is_file():
            return path
    parts = PurePosixPath(image_id).parts
    if len(parts) == 2 and parts[0] == "val" and (folder := _by_name(root / "val").get(parts[1])):
        return root / "val" / folder / parts[1]
    return None


@lru_cache(maxsize=4)
def _by_name(split: Path) -> dict[str, str]:
    """Return {file name: class folder} of SPLIT/CLASS/NAME: 50,000 names for ILSVRC, listed once."""
    folders = [entry.name for entry in os.scandir(split) if entry.is_dir()] if split.is_dir() else []
    return {entry.name: folder for folder in folders for entry in os.scandir(split / folder)}


def image_size(path: Path) -> tuple[int, int]:
    """Return the width and height of an image file, from its header.

    Raises:
        UserError: Not a readable image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise UserError(f"{path}: not a readable image ({error}); fetch it again") from error
