"""The four CSV files of a split, in wsolevaluation's layout (clovaai/wsolevaluation, data_loaders.py).

    image_ids.txt       ID                         the image's path below the image folder
    class_labels.txt    ID,LABEL                   from 0
    image_sizes.txt     ID,WIDTH,HEIGHT            pixels; a set with masks may go without (OpenImages does)
    localization.txt    ID,X0,Y0,X1,Y1             a line for each box (CUB, ILSVRC)
                        ID,MASK.png,IGNORE.png     or a line for each mask (OpenImages); IGNORE may be empty

There is no header. An id may hold commas, for what follows it is split off from the right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from pretrain.console import UserError
from wsol.metadata.lines import check_box, fields_of, integers_of, lines_of, require_files
from wsol.metadata.problems import Problems
from wsol.metadata.records import ImageRecord

IDS, LABELS, SIZES, LOCALIZATION = "image_ids.txt", "class_labels.txt", "image_sizes.txt", "localization.txt"
MOST_LABELS = 100_000  # every label up to the highest takes memory; a greater one is an identifier, or a slip
METADATA_FILES = (IDS, LABELS, SIZES, LOCALIZATION)
ONE_SPLIT = f"is not in {IDS}; the files must be of one split"

Places = dict[str, str]  # where each image id stands in image_ids.txt: "file, line n"


@dataclass
class Localization:
    """What localization.txt holds: boxes or masks, by image id."""

    boxes: dict[str, list[list[int]]] = field(default_factory=dict)
    masks: dict[str, list[str]] = field(default_factory=dict)
    ignore: dict[str, str] = field(default_factory=dict)


def read_metadata(folder: str | Path) -> list[ImageRecord]:
    """Read the files of one split: image_ids, class_labels, image_sizes and localization.

    Raises:
        UserError: A file is missing; a line is wrong, or of an id that image_ids.txt lacks; an id has no line; a box
            is inverted or lies outside its image, see `check_box`. The message names the file, the line and the id.
    """
    return collect_records(Path(folder), Problems())


def collect_records(folder: Path, problems: Problems, localised: bool = True) -> list[ImageRecord]:
    """Read the files of one split, and report what is wrong in them.

    Args:
        folder: With the files.
        problems: Takes the mistakes.
        localised: Whether boxes or masks must be there; a training split may go without, as that of OpenImages.

    Returns:
        The images whose lines are right in all files, in the order of image_ids.txt.
    """
    needed = [IDS, LABELS]
    with_masks = _holds_masks(folder / LOCALIZATION)
    if localised or (folder / LOCALIZATION).is_file():
        needed += [LOCALIZATION] if with_masks else [LOCALIZATION, SIZES]
    try:
        require_files(folder, needed, "wsolevaluation metadata")
    except UserError as error:
        if not problems.gather:
            raise
        problems.report(folder, str(error).removeprefix(f"{folder}: "))
        if not (folder / IDS).is_file():
            return []
    places = _read_ids(folder / IDS, problems)
    if not places:
        return []
    labels, sizes = (_read_numbers(folder / name, count, places, problems) for name, count in ((LABELS, 1), (SIZES, 2)))
    found = _read_localization(folder / LOCALIZATION, with_masks, places, sizes, problems)
    records = []
    for image_id in places:
        boxes, masks = found.boxes.get(image_id, []), found.masks.get(image_id, [])
        size_known = image_id in sizes or not (folder / SIZES).is_file()
        if image_id in labels and size_known and (boxes or masks or LOCALIZATION not in needed):
            width, height = sizes.get(image_id, (0, 0))
            corners = np.array(boxes, dtype=np.int64).reshape(-1, 4)
            ignore = found.ignore.get(image_id, "")
            records.append(ImageRecord(image_id, labels[image_id][0], (width, height), corners, tuple(masks), ignore))
    return records


def _read_ids(path: Path, problems: Problems) -> Places:
    places: Places = {}
    before = len(problems.found)
    for where, image_id in lines_of(path, problems):
        plain = PurePosixPath(image_id)
        if image_id in places:
            problems.report(where, f"'{image_id}' stands here for the second time; remove one")
        elif plain.is_absolute() or ".." in plain.parts:
            problems.report(where, f"'{image_id}' leads outside the image folder; give the path below it")
        else:
            places[image_id] = where
    if not places and len(problems.found) == before:
        problems.report(path, "no image in it; it needs one image id a line")
    return places


def _read_numbers(path: Path, count: int, places: Places, problems: Problems) -> dict[str, list[int]]:
    """Read one line `ID,v1,...` with `count` whole numbers for each id, and exactly for those in `places`."""
    table: dict[str, list[int]] = {}
    if not path.is_file():
        return table
    seen = set()
    for where, line in lines_of(path, problems):
        fields = fields_of(where, line.rsplit(",", count), count + 1, problems)
        if fields is None:
            seen.add(line.split(",")[0].strip())  # there is a line for it, though a wrong one
            continue
        image_id = fields[0]
        if image_id not in places:
            problems.report(where, f"'{image_id}' {ONE_SPLIT}")
        elif image_id in seen:
            problems.report(where, f"'{image_id}' stands here for the second time; remove one")
        elif (numbers := integers_of(where, image_id, fields[1:], problems)) is not None:
            if count == 2 and min(numbers) == 0:
                problems.report(
                    where, f"'{image_id}' is {numbers[0]} x {numbers[1]} pixels here; width and height are due"
                )
            elif count == 1 and numbers[0] >= MOST_LABELS:
                problems.report(where, f"the label of '{image_id}' is {numbers[0]}; number the classes 0, 1, 2, ...")
            else:
                table[image_id] = numbers
        seen.add(image_id)
    _require_lines(path, places, seen, problems)
    return table


def _holds_masks(path: Path) -> bool:
    """Whether localization.txt names masks: its first line has two fields after the id, the first one no number."""
    if not path.is_file():
        return False
    _, line = next(lines_of(path, Problems(gather=True)), ("", ""))
    fields = line.split(",")
    return len(fields) >= 3 and not _is_number(fields[-2]) and (not fields[-1].strip() or not _is_number(fields[-1]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_localization(
    path: Path, with_masks: bool, places: Places, sizes: dict[str, list[int]], problems: Problems
) -> Localization:
    found = Localization()
    if not path.is_file():
        return found
    seen = set()
    for where, line in lines_of(path, problems):
        bare = with_masks and line.endswith(",")  # a mask without an ignore file
        count = 2 if with_masks else 4
        fields = fields_of(where, line.rsplit(",", count)[: count if bare else None], count + (not bare), problems)
        if fields is None:
            seen.add(line.split(",")[0].strip())
            continue
        image_id = fields[0]
        seen.add(image_id)
        if image_id not in places:
            problems.report(where, f"'{image_id}' {ONE_SPLIT}")
        elif with_masks:
            _add_mask(found, where, image_id, fields[1], "".join(fields[2:]), problems)
        elif (box := integers_of(where, image_id, fields[1:], problems)) is not None and check_box(
            where, image_id, box, sizes.get(image_id), problems
        ):
            found.boxes.setdefault(image_id, []).append(box)
    _require_lines(path, places, seen, problems)
    return found


def _add_mask(found: Localization, where: str, image_id: str, mask: str, ignore: str, problems: Problems) -> None:
    """Add a mask. OpenImages names the image's one ignore file on its first line and leaves it empty on the others."""
    known = found.ignore.get(image_id, "")
    if ignore and known and ignore != known:
        problems.report(where, f"'{image_id}' has the ignore file {ignore} here and {known} before; it can have one")
        return
    found.masks.setdefault(image_id, []).append(mask)
    found.ignore[image_id] = known or ignore


def _require_lines(path: Path, places: Places, seen: set[str], problems: Problems) -> None:
    for image_id, where in places.items():
        if image_id not in seen:
            problems.report(path, f"no line for '{image_id}' ({where}); the files must hold the same images")
