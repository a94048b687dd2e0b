"""True boxes beside an arranged data set, as wsolevaluation's four files (clovaai/wsolevaluation, data_loaders.py).

ROOT/metadata/SPLIT/ holds image_ids.txt, class_labels.txt, image_sizes.txt and localization.txt: CSV without a header
and without a newline at the end, every file in the order of image_ids.txt.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pretrain.console import UserError
from pretrain.files import write_text

METADATA = "metadata"  # below the data set's folder
# How many images CUB's splits have there, and how the SHA-256 of their boxes at 224 x 224 begins. val is CUBV2; of the
# training set no evaluation uses the boxes.
PUBLISHED = {"train": (5_994, ""), "val": (1_000, "f4c409fad6f81276"), "test": (5_794, "e3557e61b70252ce")}


@dataclass(frozen=True)
class Located:
    """An image with its box.

    Attributes:
        image_id: Its path below the image folder.
        label: From 0.
        size: Width and height, pixels.
        box: x0, y0, x1, y1, pixels.
    """

    image_id: str
    label: int
    size: tuple[int, ...]
    box: tuple[int, ...]


def boxes_digest(images: Sequence[Located], side: int = 224) -> str:
    """Return the SHA-256 of the boxes resized to side x side, truncated, as little-endian int64."""
    values = [int(edge * side / whole) for image in images for edge, whole in zip(image.box, image.size * 2)]
    return hashlib.sha256(struct.pack(f"<{len(values)}q", *values)).hexdigest()


def compared(split: str, images: Sequence[Located]) -> str:
    """Say how a split of CUB compares with the published one.

    Raises:
        UserError: It has as many images as the published one, and other boxes.
    """
    count, begins = PUBLISHED[split]
    if len(images) != count:
        return f"{split} {len(images):,} images, not the published {count:,}"
    found = boxes_digest(images)
    if not found.startswith(begins):
        raise UserError(
            f"{split}: the boxes of its {count:,} images at 224 pixels have the SHA-256 {found[:16]}, and {begins} is "
            "published; get the images and their boxes again"
        )
    return f"{split} {count:,} images" + (", boxes as published" if begins else "")


def write_split(root: Path, split: str, images: Sequence[Located]) -> None:
    """Write ROOT/metadata/SPLIT, which takes its name when all four files are whole."""
    folder = root / METADATA / split
    partial = folder.with_name(f"{split}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    columns = {
        "image_ids": [image.image_id for image in images],
        "class_labels": [f"{image.image_id},{image.label}" for image in images],
        "image_sizes": [",".join(map(str, (image.image_id, *image.size))) for image in images],
        "localization": [",".join(map(str, (image.image_id, *image.box))) for image in images],
    }
    for name, lines in columns.items():
        write_text(partial / f"{name}.txt", "\n".join(lines))
    partial.replace(folder)


def read_split(folder: Path) -> list[Located]:
    """Read the four files of a split with one box an image.

    Raises:
        UserError: A file is missing, a line is not an id with its numbers, or the files are not of the same images.
    """
    ids = list(_table(folder / "image_ids.txt", 0))
    files = (("class_labels.txt", 1), ("image_sizes.txt", 2), ("localization.txt", 4))
    labels, sizes, boxes = (_table(folder / name, count) for name, count in files)
    for (name, _), table in zip(files, (labels, sizes, boxes)):
        if odd := sorted(table.keys() ^ set(ids)):
            raise UserError(f"{folder / name}: '{odd[0]}' is in this file or in image_ids.txt, and not in both")
    return [Located(image_id, labels[image_id][0], sizes[image_id], boxes[image_id]) for image_id in ids]


def _table(path: Path, count: int) -> dict[str, tuple[int, ...]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); get the metadata again") from error
    table: dict[str, tuple[int, ...]] = {}
    for number, line in enumerate(lines, start=1):
        image_id, *fields = line.rsplit(",", count) if count else [line]
        if len(fields) != count or not all(field.isdecimal() for field in fields) or image_id in table:
            raise UserError(
                f"{path}, line {number}: an id with {count} whole numbers is due, each id once, and this is "
                f"'{line[:80]}'"
            )
        table[image_id] = tuple(map(int, fields))
    return table
