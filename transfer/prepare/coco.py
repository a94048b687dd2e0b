"""Checking COCO: ids, boxes, outlines and categories of an annotation file, and the headers of the pictures.

Boxes are x, y, width, height from 0 (cocodataset.org, "Data format"). COCO derives them from hand-drawn outlines, so
they may reach over the border by a fraction of a pixel: up to `TOLERANCE` is right. What reaches further, boxes of no
width or height (train2017 has two of no height, annotations 918 and 2206849), and outlines of fewer than three points
are oddities, see `Findings`: both frameworks clip or leave out such an object. A box without a point in the picture,
one of negative extent, and numbers that are not finite are errors. An annotation without `segmentation`, as sets of
mere boxes have it, is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pretrain.console import first_few, progress, tell
from pretrain.files import read_json
from transfer.prepare.findings import Findings, Held, Problem
from transfer.prepare.official import ANNOTATIONS, COCO_CATEGORIES, PICTURES
from transfer.prepare.pictures import Size, compare

TOLERANCE = 1.0  # pixels
LARGEST = 1e15
SAY_READING_ABOVE = 50 << 20  # bytes; some seconds
CHUNK = 128  # pictures
READERS = 8  # threads: they wait for the disk, most of all for one on the network
TABLES = ("images", "annotations", "categories")

CORRECT = "correct the file, or delete it and unpack it again (tools/prepare_coco.py)"
NO_COCO = Problem("file that is no COCO annotation file", CORRECT)
INCOMPLETE = Problem("entry that lacks a key, or has a value of another kind", CORRECT)
TWICE = Problem("id or file name that stands there twice", CORRECT)
OTHER_COUNT = Problem(
    "another number of entries than the official one", f"say --subset if another set is meant; else {CORRECT}"
)
OTHER_CATEGORIES = Problem("categories that are not COCO's 80", f"say --subset if another set is meant; else {CORRECT}")
NO_IMAGE = Problem("annotation of an image that is not there", CORRECT)
NO_CATEGORY = Problem("annotation of a category that is not there", CORRECT)
ZERO_ID = Problem("annotation whose id is 0", "count from 1: the evaluation takes 0 for 'matches nothing'")
BAD_BOX = Problem("box that is not four finite numbers, or of negative extent", CORRECT)
OUTSIDE = Problem("box outside the image", CORRECT)
OVER_BORDER = Problem(
    f"box that reaches over the border by more than {TOLERANCE:g} pixel",
    "correct it; it has to be x, y, width, height, and both frameworks clip it",
)
NO_EXTENT = Problem("box of no width or height", "correct it, or leave it to the frameworks, which drop it")
BAD_CROWD = Problem("annotation whose iscrowd is neither 0 nor 1", CORRECT)
BAD_AREA = Problem("area that is negative or not finite", CORRECT)
BAD_OUTLINE = Problem("segmentation that is neither polygons nor a run-length code of the image's size", CORRECT)
FEW_POINTS = Problem("polygon of fewer than three points", "correct it, or leave it to the frameworks, which drop it")

Entry = Mapping[str, Any]
Found = Iterator[tuple[Problem, str]]


def check_split(annotations: Path, images: Path, name: str, subset: bool) -> tuple[Held, Findings]:
    """Check an annotation file and the headers of all its pictures.

    Args:
        annotations: instances_train2017.json or instances_val2017.json.
        images: The folder of the pictures.
        name: "coco_2017_train" or "coco_2017_val".
        subset: Whether the set is meant to have other counts and categories than the official one.

    Returns:
        What the set holds, and what is wrong, settled.
    """
    findings = Findings(str(annotations))
    if (size := annotations.stat().st_size) > SAY_READING_ABOVE:
        tell(f"{annotations}: reading {size / 2**20:,.0f} MiB")
    content = read_json(annotations)
    sizes = check_content(content, findings)
    if NO_COCO in findings.errors:
        return Held(0, 0, 0), findings
    findings.settle(len(content["annotations"]))
    if not subset:
        check_official(content, name, findings)
    used = {_value(entry, "image_id") for entry in content["annotations"]}
    held = Held(len(content["images"]), len(used), len(content["annotations"]))
    del content  # gigabytes, for train2017
    check_pictures(sizes, images, name, findings)
    return held, findings


def check_content(content: Any, findings: Findings) -> dict[str, Size]:
    """Check what an annotation file says, without looking at the pictures.

    Returns:
        {file name: (width, height)} of the images whose entries are in order.
    """
    if not isinstance(content, dict) or not all(_is_table(content.get(table)) for table in TABLES):
        findings.error(NO_COCO, f"lists of objects named {', '.join(TABLES)} are needed")
        return {}
    for table in TABLES:
        _check_unique(content[table], table, "id", findings)
    _check_unique(content["images"], "images", "file_name", findings)
    sizes: dict[int, Size] = {}
    for number, entry in enumerate(content["images"]):
        if _is_image(entry):
            sizes[entry["id"]] = entry["width"], entry["height"]
        else:
            findings.error(INCOMPLETE, f"{_label('images', number, entry)}: id, file_name, width, height are needed")
    for number, entry in enumerate(content["categories"]):
        if type(entry.get("id")) is not int or not isinstance(entry.get("name"), str):
            findings.error(INCOMPLETE, f"{_label('categories', number, entry)}: id, name are needed")
    categories = {_value(entry, "id") for entry in content["categories"]}
    for number, entry in enumerate(content["annotations"]):
        for problem, text in _annotation(entry, sizes, categories):
            note = findings.oddity if problem in (OVER_BORDER, NO_EXTENT, FEW_POINTS) else findings.error
            note(problem, f"{_label('annotations', number, entry)}: {text}")
    return {entry["file_name"]: sizes[entry["id"]] for entry in content["images"] if _is_image(entry)}


def check_official(content: Entry, name: str, findings: Findings) -> None:
    """Compare counts and categories with those of the official set."""
    for table, official in (("images", PICTURES[name]), ("annotations", ANNOTATIONS[name])):
        if len(content[table]) != official:
            findings.error(OTHER_COUNT, f"{len(content[table]):,} {table}, officially {official:,}")
    found = {_value(entry, "id"): entry.get("name") for entry in content["categories"]}
    if found != COCO_CATEGORIES:
        odd = [f"{number} is {found.get(number)!r}, not {COCO_CATEGORIES.get(number)!r}"
               for number in sorted(found.keys() | COCO_CATEGORIES.keys(), key=str)
               if found.get(number) != COCO_CATEGORIES.get(number)]  # fmt: skip
        findings.error(OTHER_CATEGORIES, f"{len(odd)} differ: {first_few(odd)}")


def check_pictures(sizes: Mapping[str, Size], images: Path, name: str, findings: Findings) -> None:
    """Compare the header of every picture with its entry."""
    items = list(sizes.items())
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]

    def check(chunk: list[tuple[str, Size]]) -> list[tuple[Problem, str] | None]:
        return [compare(images / file, size, f"{findings.place}, '{file}'") for file, size in chunk]

    with progress(f"{name}: pictures", len(items)) as advance, ThreadPoolExecutor(READERS) as pool:
        for chunk, problems in zip(chunks, pool.map(check, chunks)):
            for problem in filter(None, problems):
                findings.error(*problem)
            advance(len(chunk))


def _annotation(entry: Entry, sizes: Mapping[int, Size], categories: set[Any]) -> Found:
    """Yield the problems of an annotation, each with the value that is wrong."""
    image, category, crowd, area = (_value(entry, key) for key in ("image_id", "category_id", "iscrowd", "area"))
    if (size := sizes.get(image)) is None:
        yield NO_IMAGE, f"image_id {image!r}"
    if category not in categories:
        yield NO_CATEGORY, f"category_id {category!r}"
    if type(entry.get("id")) is not int:
        yield INCOMPLETE, "a whole number as id is needed"
    elif entry["id"] == 0:
        yield ZERO_ID, f"image {image}"
    if crowd not in (0, 1):
        yield BAD_CROWD, f"iscrowd {crowd!r}"
    if not _is_number(area) or area < 0:
        yield BAD_AREA, f"area {area!r}"
    yield from _box(entry.get("bbox"), size)
    if outline := entry.get("segmentation"):
        yield from _outline(outline, size)


def _box(box: Any, size: Size | None) -> Found:
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)) or box[2] < 0 or box[3] < 0:
        yield BAD_BOX, f"bbox {_short(box)}"
        return
    x, y, width, height = box
    if width == 0 or height == 0:
        yield NO_EXTENT, f"bbox {box}"
    if size is not None:
        over = max(-x, -y, x + width - size[0], y + height - size[1])
        if x > size[0] or y > size[1] or x + width < 0 or y + height < 0:
            yield OUTSIDE, f"bbox {box} in {size[0]} x {size[1]} pixels"
        elif over > TOLERANCE:
            yield OVER_BORDER, f"bbox {box} in {size[0]} x {size[1]} pixels, by {over:g}"


def _outline(outline: Any, size: Size | None) -> Found:
    """Check polygons [[x0, y0, x1, y1, ...], ...], or {"counts": runs or their compressed form, "size": [h, w]}."""
    if isinstance(outline, dict):
        runs = outline.get("counts")
        if not isinstance(runs, (list, str)) or (size is not None and outline.get("size") != [size[1], size[0]]):
            yield BAD_OUTLINE, f"counts {_short(runs)}, size {outline.get('size')}; the image is {size} (width, height)"
        elif isinstance(runs, list) and size is not None and not _covers(runs, size[0] * size[1]):
            yield BAD_OUTLINE, f"runs that do not add up to {size[0] * size[1]:,} pixels"
        return
    if not isinstance(outline, list):
        yield BAD_OUTLINE, _short(outline)
        return
    for number, polygon in enumerate(outline):
        if not isinstance(polygon, list) or len(polygon) % 2 or not _all_finite(polygon):
            yield BAD_OUTLINE, f"polygon {number}: {_short(polygon)}; an even number of finite coordinates is needed"
            return
        if len(polygon) < 6:
            yield FEW_POINTS, f"polygon {number}: {polygon}"


def _covers(runs: list[Any], pixels: int) -> bool:
    return all(type(run) is int and run >= 0 for run in runs) and sum(runs) == pixels


def _all_finite(values: list[Any]) -> bool:
    """Return whether all are finite numbers; by their sum, for COCO has some ten million of them."""
    try:
        return math.isfinite(sum(values))
    except (TypeError, OverflowError):
        return False


def _is_number(value: Any) -> bool:
    """Return whether it is a finite number; one beyond all pictures counts as not finite."""
    return type(value) in (int, float) and -LARGEST < value < LARGEST


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


def _is_image(entry: Entry) -> bool:
    whole = all(type(entry.get(key)) is int for key in ("id", "width", "height"))
    return whole and isinstance(entry.get("file_name"), str) and entry["width"] > 0 and entry["height"] > 0


def _value(entry: Entry, key: str) -> Any:
    """Return the value of a key as something that can be looked up: a list or an object as text."""
    value = entry.get(key)
    return repr(value) if isinstance(value, (list, dict)) else value


def _check_unique(entries: list[Any], table: str, key: str, findings: Findings) -> None:
    seen: dict[Any, int] = {}
    for number, entry in enumerate(entries):
        value = _value(entry, key)
        if value is not None and value in seen:
            findings.error(TWICE, f"{table}: {key} {value!r}, at positions {seen[value]} and {number}")
        seen[value] = number


def _label(table: str, number: int, entry: Entry) -> str:
    """Return how to find an entry: by its id, else by its position from 0."""
    where = f"{entry['id']}" if type(entry.get("id")) is int else f"at position {number}"
    return f"{table}, {where}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
