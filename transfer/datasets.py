"""Whether the VOC and COCO trees are there, before anything is built; and what to do where they are not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pretrain.console import UserError, did_you_mean
from pretrain.files import read_json

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
READ_WHOLE_BELOW = 50 << 20  # bytes: larger annotation files are parsed once only, by the framework


@dataclass(frozen=True)
class VocSplit:
    """A split of PASCAL VOC, e.g. voc_2007_trainval.

    Attributes:
        name: Detectron2's name of it.
        folder: The folder that holds JPEGImages, Annotations and ImageSets.
        year: 2007 or 2012; 2007 is evaluated by the 11-point metric.
        split: "train", "val", "trainval" or "test".
    """

    name: str
    folder: Path
    year: int
    split: str


@dataclass(frozen=True)
class CocoSplit:
    """A split of COCO 2017, e.g. coco_2017_val: its name, its folder of images, and its annotation file."""

    name: str
    images: Path
    annotations: Path


NAMES = {
    **{f"voc_{year}_{split}": ("voc", year, split) for year in (2007, 2012) for split in ("train", "val", "trainval")},
    "voc_2007_test": ("voc", 2007, "test"),
    "coco_2017_train": ("coco", 2017, "train"),
    "coco_2017_val": ("coco", 2017, "val"),
}


def data_root(given: str | Path | None) -> Path:
    """Return the folder of the data sets: what was given, else $DATA_ROOT, else $DETECTRON2_DATASETS, else data/."""
    return Path(given or os.environ.get("DATA_ROOT") or os.environ.get("DETECTRON2_DATASETS") or "data")


def preflight(names: Iterable[str], root: str | Path) -> list[VocSplit | CocoSplit]:
    """Find the data sets under `root` and check that they are whole.

    Args:
        names: Detectron2's names, e.g. "voc_2007_trainval", "coco_2017_val".
        root: Holds VOCdevkit/VOC2007 (or VOC2007) and coco.

    Raises:
        UserError: One is missing or damaged. The message goes on with the expected tree, what was found there, and
            the command that prepares it.
    """
    found: list[VocSplit | CocoSplit] = []
    for name in names:
        if name not in NAMES:
            raise UserError(f"data set {name} is unknown{did_you_mean(name, list(NAMES))}")
        kind, year, split = NAMES[name]
        found.append(_voc(name, Path(root), year, split) if kind == "voc" else _coco(name, Path(root), split))
    return found


def _voc(name: str, root: Path, year: int, split: str) -> VocSplit:
    candidates = [root / "VOCdevkit" / f"VOC{year}", root / f"VOC{year}"]
    folder = next((path for path in candidates if path.is_dir()), candidates[0])
    expected = [
        f"{candidates[0]}/   (or {candidates[1]}/)",
        f"    ImageSets/Main/{split}.txt   the names of the pictures",
        "    JPEGImages/NAME.jpg",
        "    Annotations/NAME.xml",
    ]
    listing = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not listing.is_file():
        raise _missing(f"{name}: {listing} is not there", expected, root, folder)
    # Class files of VOC have a second column; Main/{split}.txt has one name a line.
    stems = [line.split()[0] for line in listing.read_text().splitlines() if line.strip()]
    if not stems:
        raise _missing(f"{name}: {listing} names no picture", expected, root, folder)
    for subfolder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        there = {path.name for path in (folder / subfolder).glob(f"*{suffix}")}
        gone = [stem for stem in stems if f"{stem}{suffix}" not in there]
        if gone:
            first = folder / subfolder / f"{gone[0]}{suffix}"
            raise _missing(
                f"{name}: {first} is not there ({len(gone)} of {len(stems)} missing)", expected, root, folder
            )
    return VocSplit(name, folder, year, split)


def _coco(name: str, root: Path, split: str) -> CocoSplit:
    folder = root / "coco"
    images = folder / f"{split}2017"
    annotations = folder / "annotations" / f"instances_{split}2017.json"
    expected = [f"{folder}/", f"    annotations/{annotations.name}", f"    {images.name}/*.jpg"]
    if not annotations.is_file():
        raise _missing(f"{name}: {annotations} is not there", expected, root, folder)
    if not images.is_dir():
        raise _missing(f"{name}: {images} is not there", expected, root, folder)
    there = {entry.name for entry in os.scandir(images)}
    if not there:
        raise _missing(f"{name}: {images} is empty", expected, root, folder)
    if annotations.stat().st_size < READ_WHOLE_BELOW:
        content = read_json(annotations)
        if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= set(content):
            raise _missing(f"{name}: {annotations} is no COCO annotation file", expected, root, folder)
        gone = [image["file_name"] for image in content["images"] if image["file_name"] not in there]
        if gone:
            problem = f"{name}: {images / gone[0]} is not there ({len(gone)} of {len(content['images'])} missing)"
            raise _missing(problem, expected, root, folder)
    return CocoSplit(name, images, annotations)


def _missing(problem: str, expected: list[str], root: Path, folder: Path) -> UserError:
    """Return the error: what is wrong in the first line, then the tree, then what is there, then the remedy."""
    lines = [problem, "expected:", *(f"  {line}" for line in expected), "found:", *_found(root, folder)]
    lines += [
        "prepare:",
        f"  python tools/prepare_demo.py --out {root}   the small semi-synthetic demo, in the same layout",
        "  the real sets: docs/detectron2.md, section Data; another folder: --data-root DIR or DATA_ROOT=DIR",
    ]
    return UserError("\n".join(lines))


def _found(root: Path, folder: Path) -> list[str]:
    """List what the nearest existing folder holds, at most twelve entries of two levels."""
    place = folder if folder.is_dir() else root
    if not place.is_dir():
        return [f"  {place}/ does not exist"]
    lines = [f"  {place}/" + ("" if any(place.iterdir()) else "   (empty)")]
    for entry in sorted(place.iterdir())[:12]:
        count = f"   ({sum(1 for _ in entry.iterdir())} entries)" if entry.is_dir() else ""
        lines.append(f"    {entry.name}{'/' if entry.is_dir() else ''}{count}")
    return lines
