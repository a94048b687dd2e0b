"""Checking PASCAL VOC: lists of pictures, annotations in XML, and the headers of the JPEG files.

Boxes are pixel numbers from 1, the far corner inclusive (devkit_doc of VOC 2007, section 4), so a box may end at the
picture's width. VOC 2012 has coordinates that are no whole numbers ("45.70000076293945"). Its objects may have parts
with boxes of their own, which detection does not read. A box of no extent, or one that reaches over the border, is an
oddity, see `Findings`; one whose corners are swapped, or that lies outside altogether, is an error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from defusedxml.ElementTree import ParseError, parse

from pretrain.console import did_you_mean, first_few, progress
from transfer.prepare.findings import Findings, Held, Problem
from transfer.prepare.official import PICTURES, VOC_CLASSES
from transfer.prepare.pictures import MISSING, Size, compare

AGAIN = "give the archive to tools/prepare_voc.py again: it writes what is missing"
CORRECT = "correct the file, or delete it and unpack it again (tools/prepare_voc.py)"
OTHER_COUNT = Problem(
    "list of another length than the official one", f"say --subset if another set is meant; else {AGAIN}"
)
TWICE = Problem("picture listed twice", "correct the list")
OVERLAP = Problem("lists that do not fit together", CORRECT)
NO_XML = Problem("annotation that is not there", AGAIN)
BAD_XML = Problem("annotation that cannot be read", CORRECT)
OTHER_FILE = Problem("annotation of another picture", CORRECT)
BAD_SIZE = Problem("annotation without a size", CORRECT)
UNKNOWN_CLASS = Problem("object of a class that is none of the 20", "correct its name")
BAD_FLAG = Problem("object whose <difficult> is neither 0 nor 1", CORRECT)
BAD_BOX = Problem("object without a box of four finite numbers", CORRECT)
SWAPPED = Problem("box whose corners are swapped", CORRECT)
OUTSIDE = Problem("box outside the picture", CORRECT)
NO_EXTENT = Problem("box of no width or height", "correct it: MMDetection cannot learn from it")
OVER_BORDER = Problem("box that reaches over the border", "correct it; both frameworks clip it")
NO_OBJECTS = Problem("picture without an object", "Detectron2 leaves it out of training, MMDetection does, too")

SIDES = ("xmin", "ymin", "xmax", "ymax")
SPLITS = {2007: ("train", "val", "trainval", "test"), 2012: ("train", "val", "trainval")}


def read_lists(folder: Path, year: int) -> dict[str, list[str]]:
    """Return {split: names of its pictures} for the lists that are there in FOLDER/ImageSets/Main."""
    files = {split: folder / "ImageSets" / "Main" / f"{split}.txt" for split in SPLITS[year]}
    return {split: read_list(file) for split, file in files.items() if file.is_file()}


def read_list(path: Path) -> list[str]:
    """Return the names in a list; lists of one class have a second column, which is left off."""
    return [line.split()[0] for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]


def check_year(folder: Path, year: int, subset: bool) -> tuple[dict[str, Held], Findings]:
    """Check all lists of a year's folder and every picture in them, each once.

    Args:
        folder: E.g. VOCdevkit/VOC2007.
        year: 2007 or 2012.
        subset: Whether it is meant to hold another number of pictures than the official set.

    Returns:
        {name of the set: what it holds} and what is wrong, settled.
    """
    findings = Findings(str(folder))
    lists = read_lists(folder, year)
    check_lists(lists, folder, year, subset, findings)
    stems = list(dict.fromkeys(stem for names in lists.values() for stem in names))
    objects: dict[str, int] = {}
    with progress(f"VOC {year}: annotations and pictures", len(stems)) as advance:
        for stem in stems:
            objects[stem] = check_picture(folder, stem, findings)
            advance()
    findings.settle(sum(objects.values()))
    held: dict[str, Held] = {}
    for split, names in lists.items():
        counts = [objects[name] for name in names]
        held[f"voc_{year}_{split}"] = Held(len(names), sum(count > 0 for count in counts), sum(counts))
    return held, findings


def check_lists(lists: Mapping[str, list[str]], folder: Path, year: int, subset: bool, findings: Findings) -> None:
    """Check the lengths of the lists, and that train and val make up trainval and share nothing with test."""
    for split, names in lists.items():
        path = folder / "ImageSets" / "Main" / f"{split}.txt"
        official = PICTURES[f"voc_{year}_{split}"]
        if not names or (len(names) != official and not subset):
            findings.error(OTHER_COUNT, f"{path}: {len(names):,} pictures, officially {official:,}")
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            findings.error(TWICE, f"{path}: {first_few(twice)}")
    train, val, trainval, test = (set(lists.get(split, ())) for split in SPLITS[2007])
    main = folder / "ImageSets" / "Main"
    if {"train", "val", "trainval"} <= lists.keys() and (odd := (train | val) ^ trainval):
        text = f"{main}/trainval.txt is not train.txt and val.txt together: {first_few(sorted(odd))}"
        findings.error(OVERLAP, text)
    if both := train & val:
        findings.error(OVERLAP, f"{main}: in train.txt and in val.txt: {first_few(sorted(both))}")
    if both := (train | val | trainval) & test:
        findings.error(OVERLAP, f"{main}: for training and in test.txt: {first_few(sorted(both))}")


def check_picture(folder: Path, stem: str, findings: Findings) -> int:
    """Check one picture's annotation, and its JPEG against it; return the number of its objects."""
    path, picture = folder / "Annotations" / f"{stem}.xml", folder / "JPEGImages" / f"{stem}.jpg"
    root, size = check_annotation(path, findings)
    if size is not None:
        if problem := compare(picture, size, str(path)):
            findings.error(*problem)
    elif not picture.exists():
        findings.error(MISSING, f"{picture}, named by a list")
    if root is None:
        return 0
    if (name := (root.findtext("filename") or "").strip()) != picture.name:
        findings.error(OTHER_FILE, f"{path}: <filename> is '{name}', not '{picture.name}'")
    objects = root.findall("object")
    for number, thing in enumerate(objects, start=1):
        check_object(thing, f"{path}, object {number}", findings)
    if not objects:
        findings.warning(NO_OBJECTS, str(path))
    return len(objects)


def check_annotation(path: Path, findings: Findings) -> tuple[Any, Size | None]:
    """Check what both frameworks read of an annotation, whatever its classes are: the size, and the boxes.

    Returns:
        The root element, or None if it cannot be read, and (width, height) in pixels, or None.
    """
    root = read_annotation(path, findings)
    if root is None:
        return None, None
    size = annotated_size(root)
    if size is None:
        findings.error(BAD_SIZE, f"{path}: <size> needs a <width> and a <height> of whole numbers")
    for number, thing in enumerate(root.iterfind("object"), start=1):
        check_box(thing, f"{path}, object {number} ({thing.findtext('name')})", size, findings)
    return root, size


def read_annotation(path: Path, findings: Findings) -> Any:
    """Return the root element of an annotation, or None if it is missing or cannot be read.

    The parser refuses entities, by which a small file could fill the memory or read other files.
    """
    try:
        root: Any = parse(path).getroot()
    except FileNotFoundError:
        findings.error(NO_XML, str(path))
        return None
    except (ParseError, ValueError, LookupError, OSError) as error:  # ValueErrors: of defusedxml; unknown encodings
        findings.error(BAD_XML, f"{path}: {type(error).__name__}: {error}")
        return None
    if root.tag != "annotation":
        findings.error(BAD_XML, f"{path}: begins with <{root.tag}>, not <annotation>")
        return None
    return root


def annotated_size(root: Any) -> Size | None:
    """Return (width, height) in pixels; None where they are missing or no positive whole numbers."""
    texts = [(root.findtext(f"size/{side}") or "").strip() for side in ("width", "height")]
    if not all(text.isdecimal() and int(text) > 0 for text in texts):
        return None
    return int(texts[0]), int(texts[1])


def check_object(thing: Any, where: str, findings: Findings) -> None:
    """Check the class of an <object>, and whether it is marked as difficult."""
    name = thing.findtext("name") or ""
    if name not in VOC_CLASSES:  # not stripped, for the frameworks do not
        findings.error(UNKNOWN_CLASS, f"{where}: '{name}'{did_you_mean(name, list(VOC_CLASSES))}")
    if (flag := (thing.findtext("difficult") or "0").strip()) not in ("0", "1"):
        findings.error(BAD_FLAG, f"{where} ({name}): '{flag}'")


def check_box(thing: Any, where: str, size: Size | None, findings: Findings) -> None:
    """Check the <bndbox> of an <object>, whose numbers count pixels from 1, against the picture's size."""
    texts = [thing.findtext(f"bndbox/{side}") or "" for side in SIDES]
    try:
        box = [float(text) for text in texts]
    except ValueError:
        box = [math.nan]
    text = f"{where}: {', '.join(f'{side} {value}' for side, value in zip(SIDES, texts))}"
    if not all(map(math.isfinite, box)):
        findings.error(BAD_BOX, text)
        return
    x0, y0, x1, y1 = box
    if x1 < x0 or y1 < y0:
        findings.error(SWAPPED, text)
        return
    if x1 == x0 or y1 == y0:
        findings.oddity(NO_EXTENT, text)
    if size is not None:
        text += f" in {size[0]} x {size[1]} pixels"
        if x1 < 1 or y1 < 1 or x0 > size[0] or y0 > size[1]:
            findings.error(OUTSIDE, text)
        elif x0 < 1 or y0 < 1 or x1 > size[0] or y1 > size[1]:
            findings.oddity(OVER_BORDER, text)
