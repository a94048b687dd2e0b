"""Image lists, classes and true boxes: wsolevaluation's CSV files, and the CUB_200_2011 tree itself."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pretrain.console import UserError

SPLITS = ("train", "val", "test")
METADATA_FILES = ("image_ids.txt", "class_labels.txt", "image_sizes.txt", "localization.txt")
CUB_FILES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt")


@dataclass(frozen=True)
class ImageRecord:
    """One image of a split.

    Attributes:
        image_id: Path of the image below the image folder, e.g. "001.Black_footed_Albatross/x.jpg".
        label: Index of its class in the data set, from 0.
        size: Width and height in pixels.
        boxes: (n, 4) int64, x0, y0, x1, y1 in pixels of the original image, n >= 1.
    """

    image_id: str
    label: int
    size: tuple[int, int]
    boxes: npt.NDArray[np.int64]

    def boxes_at(self, width: int, height: int) -> npt.NDArray[np.int64]:
        """Return the boxes on the image resized to width x height; coordinates are truncated, as in the reference."""
        scaled = self.boxes * (width, height, width, height) / np.array(self.size * 2)
        return np.asarray(scaled.astype(np.int64))


def boxes_digest(records: Sequence[ImageRecord], size: int) -> str:
    """Return the SHA-256 of all boxes resized to size x size, as (n, 4) little-endian int64 in the records' order.

    For CUB's boxes at 224 it begins with e3557e61b70252ce (test) and f4c409fad6f81276 (wsolevaluation's val).
    """
    boxes = np.concatenate([record.boxes_at(size, size) for record in records])
    return hashlib.sha256(np.ascontiguousarray(boxes, dtype="<i8").tobytes()).hexdigest()


def read_metadata(folder: str | Path) -> list[ImageRecord]:
    """Read the four files of one split: image_ids, class_labels, image_sizes and localization.

    Each is plain CSV without a header: `ID`; `ID,LABEL`; `ID,WIDTH,HEIGHT`; `ID,X0,Y0,X1,Y1`, with a line for each box.

    Raises:
        UserError: A file is missing, or a line of it is wrong; the message names file and line.
    """
    folder = Path(folder)
    _require(folder, METADATA_FILES, "wsolevaluation metadata")
    ids: dict[str, None] = {}
    for where, [image_id] in _rows(folder / "image_ids.txt", ",", 0):
        if image_id in ids:
            raise UserError(f"{where}: '{image_id}' stands here for the second time; remove one")
        ids[image_id] = None
    if not ids:
        raise UserError(f"{folder / 'image_ids.txt'}: no image in it; it needs one image id a line")
    labels = {image_id: values[0] for image_id, values in _csv(folder / "class_labels.txt", 1, ids).items()}
    sizes = {image_id: values[0] for image_id, values in _csv(folder / "image_sizes.txt", 2, ids).items()}
    boxes = _csv(folder / "localization.txt", 4, ids, repeated=True)
    return [
        ImageRecord(image_id, labels[image_id][0], (sizes[image_id][0], sizes[image_id][1]), np.array(boxes[image_id]))
        for image_id in ids
    ]


def read_cub(root: str | Path, split: str = "test") -> list[ImageRecord]:
    """Read a split of the CUB_200_2011 tree from its own files; the order is that of images.txt.

    Image sizes come from the images themselves, and boxes `x y width height` become x, y, x + width, y + height.

    Raises:
        UserError: A file is missing or a line of one is wrong, or the split is neither train nor test.
    """
    root = Path(root)
    if split not in ("train", "test"):
        raise UserError(f"{root}: CUB_200_2011 itself has no split '{split}', only train and test; give --metadata DIR")
    _require(root, CUB_FILES, "CUB_200_2011")
    names = _keyed(root / "images.txt", 1)
    labels = _keyed(root / "image_class_labels.txt", 1, names)
    parts = _keyed(root / "train_test_split.txt", 1, names)
    corners = _keyed(root / "bounding_boxes.txt", 4, names)
    wanted = "1" if split == "train" else "0"
    records = []
    for key, (_, [name]) in names.items():
        where, [part] = parts[key]
        if part not in ("0", "1"):
            raise UserError(f"{where}: '{part}' should be 1 (train) or 0 (test)")
        if part != wanted:
            continue
        label = _integers(*labels[key])[0] - 1
        if label < 0:
            raise UserError(f"{labels[key][0]}: the class number is 0, and CUB counts from 1")
        x, y, width, height = _numbers(*corners[key])
        box = np.array([[x, y, x + width, y + height]]).astype(np.int64)
        records.append(ImageRecord(name, label, image_size(find_image(root, name)), box))
    if not records:
        raise UserError(f"{root / 'train_test_split.txt'}: no image of the split '{split}' ({wanted})")
    return records


def read_split(root: str | Path | None, metadata: str | Path | None, split: str) -> tuple[list[ImageRecord], str]:
    """Read a split from where it is found, and say where: "metadata" or "CUB_200_2011".

    Args:
        root: A CUB_200_2011 tree, or None when only metadata are there.
        metadata: A folder with the four files, or with a folder of them for each split; None looks for
            `root/metadata/<split>`, and then reads the tree's own files.
        split: "train", "val" or "test".

    Raises:
        UserError: See `read_metadata` and `read_cub`.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}'; known: {', '.join(SPLITS)}")
    if metadata is not None:
        parent = Path(metadata) / split
        return read_metadata(parent if parent.is_dir() else metadata), "metadata"
    if root is None:
        raise UserError("neither a data folder nor metadata was given; give --data or --metadata")
    if (inside := Path(root) / "metadata" / split).is_dir():
        return read_metadata(inside), "metadata"
    return read_cub(root, split), "CUB_200_2011"


def read_classes(root: str | Path) -> list[str]:
    """Return the class names of a CUB_200_2011 tree in the order of their labels, without the leading `NNN.`.

    Raises:
        UserError: classes.txt is missing, or does not count from 1 upwards.
    """
    _require(Path(root), ("classes.txt",), "CUB_200_2011")
    names = []
    for key, (where, [name]) in _keyed(Path(root) / "classes.txt", 1).items():
        names.append(plain_class_name(name))
        if key != str(len(names)):
            raise UserError(f"{where}: class number {key} where {len(names)} is due; number the classes 1, 2, 3, ...")
    return names


def plain_class_name(name: str) -> str:
    """Return a class name without the number that CUB puts before it: "001.Laysan_Albatross" -> "Laysan_Albatross"."""
    return re.sub(r"^\d+\.", "", name)


def match_classes(data_classes: Sequence[str], checkpoint_classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return, for each class of the data, its index among the checkpoint's classes, by name, as (classes,) int64.

    Raises:
        UserError: A class of the data is not among the checkpoint's, or a name stands twice in one of the two lists.
    """
    lists = {"data": data_classes, "checkpoint": checkpoint_classes}
    plain = {who: [plain_class_name(name) for name in names] for who, names in lists.items()}
    for who, names in plain.items():
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"the {who} has two classes of the name '{twice[0]}'; rename one, so that names can match")
    if missing := [name for name in plain["data"] if name not in plain["checkpoint"]]:
        raise UserError(
            f"{len(missing)} of the data's {len(data_classes)} classes are not among the checkpoint's "
            f"{len(checkpoint_classes)}: {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}; "
            "train the checkpoint on these classes"
        )
    position = {name: index for index, name in enumerate(plain["checkpoint"])}
    return np.array([position[name] for name in plain["data"]], dtype=np.int64)


def find_image(root: str | Path, image_id: str) -> Path:
    """Return the path of an image, below `root/images` or, as wsolevaluation's own sets lie, below `root`.

    Raises:
        UserError: It is in neither place.
    """
    for path in (Path(root) / "images" / image_id, Path(root) / image_id):
        if path.is_file():
            return path
    raise UserError(f"{Path(root) / 'images' / image_id}: no such image; is {root} the right data folder?")


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


def _require(folder: Path, names: Sequence[str], what: str) -> None:
    if missing := [name for name in names if not (folder / name).is_file()]:
        there = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        found = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "") if there else "nothing"
        raise UserError(
            f"{folder}: no {missing[0]}; is it {what}?\n"
            f"  expected: {', '.join(names)}\n"
            f"  found:    {found}\n"
            "  prepare:  unpack the data there, or python tools/prepare_demo.py --out work_dirs/quickstart/data"
        )


def _rows(path: Path, separator: str | None, values: int) -> Iterator[tuple[str, list[str]]]:
    """Yield (place, [first field, ... `values` more]) for each line that is not blank; `place` is "file, line n"."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); fetch it again") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        # An image's path may hold the separator. In CSV it comes first, in CUB's own files it comes last.
        split = line.strip().rsplit if separator else line.strip().split
        fields = [field.strip() for field in split(separator, values)]
        if len(fields) != values + 1 or not all(fields):
            raise UserError(f"{path}, line {number}: {values + 1} fields are due, and this is '{line.strip()[:80]}'")
        yield f"{path}, line {number}", fields


def _csv(path: Path, values: int, ids: dict[str, None], repeated: bool = False) -> dict[str, list[list[int]]]:
    """Read `ID,v1,v2,...` with whole numbers; every id must be in `ids`, and every one of `ids` in the file."""
    table: dict[str, list[list[int]]] = {}
    for where, [image_id, *fields] in _rows(path, ",", values):
        if image_id not in ids:
            raise UserError(f"{where}: '{image_id}' is not in image_ids.txt; the files must be of one split")
        if image_id in table and not repeated:
            raise UserError(f"{where}: '{image_id}' stands here for the second time; remove one")
        numbers = _integers(where, fields)
        if values == 2:
            _check_record(where, size=numbers)
        elif values == 4:
            _check_record(where, box=numbers)
        table.setdefault(image_id, []).append(numbers)
    for image_id in ids:
        if image_id not in table:
            raise UserError(f"{path}: no line for '{image_id}' of image_ids.txt; fetch the metadata again")
    return table


def _keyed(
    path: Path, values: int, keys: dict[str, tuple[str, list[str]]] | None = None
) -> dict[str, tuple[str, list[str]]]:
    """Read CUB's `KEY v1 v2 ...` into {key: (place, values)}; with `keys`, the file must hold exactly those."""
    table: dict[str, tuple[str, list[str]]] = {}
    for where, [key, *fields] in _rows(path, None, values):
        if key in table or (keys is not None and key not in keys):
            why = "stands here for the second time" if key in table else "is not in images.txt"
            raise UserError(f"{where}: the number {key} {why}; unpack CUB_200_2011 again")
        table[key] = (where, fields)
    for key in keys or {}:
        if key not in table:
            raise UserError(f"{path}: no line for image {key} of images.txt; unpack CUB_200_2011 again")
    return table


def _numbers(where: str, fields: list[str]) -> list[float]:
    """Return finite numbers from 0."""
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        numbers = [math.nan]
    if not all(0 <= number < math.inf for number in numbers):
        raise UserError(f"{where}: numbers from 0 are due, and this is '{', '.join(fields)}'")
    return numbers


def _integers(where: str, fields: list[str]) -> list[int]:
    """Return whole numbers from 0."""
    numbers = _numbers(where, fields)
    if not all(number.is_integer() for number in numbers):
        raise UserError(f"{where}: whole numbers are due, and this is '{', '.join(fields)}'")
    return [int(number) for number in numbers]


def _check_record(where: str, size: list[int] | None = None, box: list[int] | None = None) -> None:
    """Refuse a size of nothing, and a box whose far corner lies before the near one."""
    if size is not None and min(size) == 0:
        raise UserError(f"{where}: an image of {size[0]} x {size[1]} pixels; width and height are due")
    if box is not None and (box[2] < box[0] or box[3] < box[1]):
        raise UserError(f"{where}: the box {box} should be x0, y0, x1, y1 with x0 <= x1 and y0 <= y1")
