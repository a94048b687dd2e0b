"""The names of the data's classes, and which class of a checkpoint each of them is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from pretrain.console import UserError, first_few
from wsol.metadata.cub import read_rows
from wsol.metadata.lines import require_files
from wsol.metadata.records import ImageRecord

CLASSES = "classes.txt"
NO_IMAGE = ""  # the name of a label that no image has


def read_classes(root: str | Path) -> list[str]:
    """Return the class names of a CUB_200_2011 tree in the order of their labels, without the leading `NNN.`.

    Raises:
        UserError: classes.txt is missing, or does not count from 1 upwards.
    """
    require_files(Path(root), (CLASSES,), "CUB_200_2011")
    names: list[str] = []
    for key, (where, [name]) in read_rows(Path(root) / CLASSES, 1).items():
        names.append(plain_class_name(name))
        if key != str(len(names)):
            raise UserError(f"{where}: class number {key} where {len(names)} is due; number the classes 1, 2, 3, ...")
    return names


def class_names(records: Sequence[ImageRecord], root: str | Path | None) -> list[str] | None:
    """Return the names of the classes in the order of their labels, without the leading `NNN.` of CUB.

    They are those of ROOT/classes.txt; else the folders in which the images lie, where all images of a label lie in
    folders of one name, and no two labels share it (CUB, OpenImages, an ordinary tree of class folders). Folders that
    only repeat the label, as those of ImageNetV2 (`val2/7/x.jpeg` is label 7), are no names.

    Args:
        records: The images of a split. A label that none of them has is named "".
        root: The data folder; None where only metadata are there.

    Returns:
        One name for each label from 0 to the highest, or more by classes.txt; None where there are no names.

    Raises:
        UserError: classes.txt is wrong, or lists fewer classes than the images have.
    """
    if root is not None and (Path(root) / CLASSES).is_file():
        names = read_classes(root)
        for record in records:
            if record.label >= len(names):
                raise UserError(
                    f"{record.image_id} is of class {record.label} (from 0), and {Path(root) / CLASSES} lists "
                    f"{len(names)}; are data and metadata of one set?"
                )
        return names
    folders: dict[int, str] = {}
    for record in records:
        folder = PurePosixPath(record.image_id).parent.name
        if not folder or folders.setdefault(record.label, folder) != folder:
            return None
    if len(set(folders.values())) < len(folders):
        return None
    if all(folder.isdecimal() and int(folder) == label for label, folder in folders.items()):
        return None
    return [plain_class_name(folders.get(label, NO_IMAGE)) for label in range(max(folders) + 1)]


def plain_class_name(name: str) -> str:
    """Return a class name without the number that CUB puts before it: "001.Laysan_Albatross" -> "Laysan_Albatross"."""
    return re.sub(r"^\d+\.", "", name)


def match_classes(
    data_classes: Sequence[str] | None, checkpoint_classes: Sequence[str], labels: int
) -> tuple[npt.NDArray[np.int64], str]:
    """Find the checkpoint's class of each label of the data: by name where both have names, else by index.

    Args:
        data_classes: Names in the order of the labels, see `class_names`; None where the data have none.
        checkpoint_classes: Names in the order of the checkpoint's outputs; "0", "1", ... is how a checkpoint without
            names has them.
        labels: The number of the data's labels, one more than the highest.

    Returns:
        (labels,) int64, and in words how it was found. A label named "", which no image has, gets -1.

    Raises:
        UserError: By name: a class of the data is not among the checkpoint's, or a name stands twice in one of the two
            lists. By index: the data have more labels than the checkpoint has classes.
    """
    numbered = list(checkpoint_classes) == [str(index) for index in range(len(checkpoint_classes))]
    if data_classes is None or numbered:
        return _match_by_index(data_classes, len(checkpoint_classes), labels)
    lists = {"data": data_classes[:labels], "checkpoint": checkpoint_classes}
    plain = {who: [plain_class_name(name) for name in names] for who, names in lists.items()}
    for who, names in plain.items():
        if twice := sorted({name for name in names if name != NO_IMAGE and names.count(name) > 1}):
            raise UserError(f"the {who} has two classes of the name '{twice[0]}'; rename one, so that names can match")
    position = {name: index for index, name in enumerate(plain["checkpoint"])}
    position[NO_IMAGE] = -1
    if missing := [name for name in plain["data"] if name not in position]:
        raise UserError(
            f"{len(missing)} of the data's {len(data_classes)} classes are not among the checkpoint's "
            f"{len(checkpoint_classes)}: {first_few(missing)}; train the checkpoint on these classes"
        )
    matched = sum(name != NO_IMAGE for name in plain["data"])
    how = f"by name: {matched} of the checkpoint's {len(checkpoint_classes)} classes"
    return np.array([position[name] for name in plain["data"]], dtype=np.int64), how


def _match_by_index(
    data_classes: Sequence[str] | None, checkpoint_classes: int, labels: int
) -> tuple[npt.NDArray[np.int64], str]:
    who = "the data have no class names" if data_classes is None else "the checkpoint has no class names"
    if labels > checkpoint_classes:
        raise UserError(
            f"the data have labels up to {labels - 1}, and the checkpoint has {checkpoint_classes} classes; {who}, so "
            "that label 0 would be its first class: evaluate a checkpoint that was trained on these classes"
        )
    how = f"BY INDEX, for {who}: the data's {labels} labels are taken as the first of {checkpoint_classes} classes"
    return np.arange(labels, dtype=np.int64), how
