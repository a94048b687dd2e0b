"""The CUB_200_2011 tree, from its own files (Wah et al., 2011)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pretrain.console import UserError
from wsol.metadata.finding import find_image, image_size
from wsol.metadata.lines import check_box, fields_of, integers_of, lines_of, numbers_of, require_files
from wsol.metadata.problems import Problems
from wsol.metadata.records import ImageRecord

CUB_FILES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt")

Rows = dict[str, tuple[str, list[str]]]  # by CUB's number: "file, line n", and the fields behind the number


def read_cub(root: str | Path, split: str = "test") -> list[ImageRecord]:
    """Read a split of the CUB_200_2011 tree from its own files; the order is that of images.txt.

    Image sizes come from the images themselves, and boxes `x y width height` become x, y, x + width, y + height,
    truncated.

    Raises:
        UserError: A file is missing or a line of one is wrong, or the split is neither train nor test.
    """
    root, problems = Path(root), Problems()
    if split not in ("train", "test"):
        raise UserError(f"{root}: CUB_200_2011 itself has no split '{split}', only train and test; give --metadata DIR")
    require_files(root, CUB_FILES, "CUB_200_2011")
    names = read_rows(root / "images.txt", 1)
    labels = read_rows(root / "image_class_labels.txt", 1, names)
    parts = read_rows(root / "train_test_split.txt", 1, names)
    corners = read_rows(root / "bounding_boxes.txt", 4, names)
    wanted = "1" if split == "train" else "0"
    records = []
    for key, (_, [name]) in names.items():
        where, [part] = parts[key]
        if part not in ("0", "1"):
            problems.report(where, f"'{part}' of '{name}' should be 1 (train) or 0 (test)")
        if part != wanted:
            continue
        where, fields = labels[key]
        label = (integers_of(where, name, fields, problems) or [0])[0] - 1
        if label < 0:
            problems.report(where, f"the class number of '{name}' is 0, and CUB counts from 1")
        where, fields = corners[key]
        x, y, width, height = numbers_of(where, name, fields, problems) or [0.0] * 4
        box = np.array([[x, y, x + width, y + height]]).astype(np.int64)
        size = image_size(find_image(root, name))
        check_box(where, name, box[0].tolist(), list(size), problems)
        records.append(ImageRecord(name, label, size, box))
    if not records:
        problems.report(root / "train_test_split.txt", f"no image of the split '{split}' ({wanted})")
    return records


def read_rows(path: Path, values: int, keys: Rows | None = None) -> Rows:
    """Read CUB's `KEY v1 v2 ...` into {key: (place, values)}; with `keys`, the file must hold exactly those."""
    problems = Problems()
    table: Rows = {}
    for where, line in lines_of(path, problems):
        # An image's path may hold blanks, and comes last.
        key, *fields = fields_of(where, line.split(None, values), values + 1, problems) or [""]
        if key in table or (keys is not None and key not in keys):
            why = "stands here for the second time" if key in table else "is not in images.txt"
            problems.report(where, f"the number {key} {why}; unpack CUB_200_2011 again")
        table[key] = (where, fields)
    for key in keys or {}:
        if key not in table:
            problems.report(path, f"no line for image {key} of images.txt; unpack CUB_200_2011 again")
    return table
