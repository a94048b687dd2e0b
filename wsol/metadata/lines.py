"""Text files of one record a line, and the numbers in them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from pretrain.console import UserError
from wsol.metadata.problems import Problems


def require_files(folder: Path, names: Sequence[str], what: str) -> None:
    """Raise a UserError that tells what was expected and what is there, unless all the files are."""
    if missing := [name for name in names if not (folder / name).is_file()]:
        there = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        nothing = "nothing" if folder.is_dir() else "a file, not a folder" if folder.exists() else "no such folder"
        found = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "") if there else nothing
        raise UserError(
            f"{folder}: no {missing[0]}; is it {what}?\n"
            f"  expected: {', '.join(names)}\n"
            f"  found:    {found}\n"
            "  prepare:  python tools/prepare_cub.py, or unpack the data there, or python tools/prepare_demo.py --out "
            "work_dirs/quickstart/data"
        )


def lines_of(path: Path, problems: Problems) -> Iterator[tuple[str, str]]:
    """Yield (place, line) for each line that is not blank; `place` is "file, line n"."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # spreadsheets put a mark before the first line
    except UnicodeDecodeError as error:
        problems.report(path, f"not UTF-8 text ({error.reason} at byte {error.start}); fetch it again")
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path}, line {number}", line.strip()


def fields_of(where: str, fields: Sequence[str], count: int, problems: Problems) -> list[str] | None:
    """Return the fields without their blanks; None, and a report, where there are more or fewer or an empty one."""
    plain = [field.strip() for field in fields]
    if len(plain) != count or not all(plain):
        problems.report(where, f"{count} fields are due, and this is '{','.join(plain)[:80]}'")
        return None
    return plain


def numbers_of(where: str, image_id: str, fields: Sequence[str], problems: Problems) -> list[float] | None:
    """Return finite numbers from 0; None, and a report, where they are not."""
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        numbers = [math.nan]
    if all(0 <= number < math.inf for number in numbers):
        return numbers
    may_be_heading = where.endswith(", line 1") and math.isnan(numbers[0])
    remedy = "; if this line names the columns, remove it" if may_be_heading else ""
    problems.report(where, f"numbers from 0 are due for '{image_id}', and this is '{', '.join(fields)}'{remedy}")
    return None


def integers_of(where: str, image_id: str, fields: Sequence[str], problems: Problems) -> list[int] | None:
    """Return whole numbers from 0; None, and a report, where they are not."""
    numbers = numbers_of(where, image_id, fields, problems)
    if numbers is None:
        return None
    if not all(number.is_integer() for number in numbers):
        problems.report(where, f"whole numbers are due for '{image_id}', and this is '{', '.join(fields)}'")
        return None
    return [int(number) for number in numbers]


def check_box(where: str, image_id: str, box: list[int], size: list[int] | None, problems: Problems) -> bool:
    """Whether a box x0, y0, x1, y1 is upright and in its image; if not, that is reported.

    The far corner may lie up to one pixel beyond the right and the lower side, at width + 1 and height + 1: boxes
    rounded from fractions may end on the next pixel, and some sets count pixels from 1. The near corner lies inside.

    Args:
        where: The line.
        image_id: Of the image.
        box: Whole numbers from 0.
        size: Width and height of the image; None where they are not known, and the box is not compared with them.
        problems: Takes the mistake.
    """
    if box[2] < box[0] or box[3] < box[1]:
        problems.report(where, f"the box {box} of '{image_id}' should be x0, y0, x1, y1 with x0 <= x1 and y0 <= y1")
        return False
    if size and (box[0] >= size[0] or box[1] >= size[1] or box[2] > size[0] + 1 or box[3] > size[1] + 1):
        problems.report(
            where,
            f"the box {box} lies outside its image '{image_id}' of {size[0]} x {size[1]} pixels; is it "
            f"x0, y0, x1, y1 (not x, y, width, height), and is the image's size right?",
        )
        return False
    return True
