"""Whether the VOC and COCO trees are there, before anything is built; and what to do where they are not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pretrain.console import UserError, did_you_mean
from pretrain.files import read_json
from transfer.prepare import coco, voc
from transfer.prepare.findings import Findings
from transfer.prepare.official import COCO, VOC, VOC_CLASSES, Family

READ_WHOLE_BELOW = 50 << 20  # bytes: larger annotation files are parsed once only, by the framework
UNPACKING = ".unpacking"  # in VOCdevkit or coco while an archive is being unpacked there
VERIFIED = "verified.json"  # in coco: {set: {"pictures", "objects", "annotation_bytes"}}, by tools/prepare_coco.py

__all__ = ["READ_WHOLE_BELOW", "VOC_CLASSES", "CocoSplit", "VocSplit", "data_root", "preflight"]


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


def voc_folder(root: Path, year: int) -> Path:
    """Return the folder of a year of VOC, in the devkit or beside it; where there is neither, that in the devkit."""
    candidates = [root / "VOCdevkit" / f"VOC{year}", root / f"VOC{year}"]
    return next((path for path in candidates if path.is_dir()), candidates[0])


def coco_images(root: Path, split: str) -> Path:
    """Return the folder of the pictures of COCO's "train" or "val"."""
    return root / "coco" / f"{split}2017"


def coco_annotations(root: Path, split: str) -> Path:
    """Return the annotation file of COCO's "train" or "val"."""
    return root / "coco" / "annotations" / f"instances_{split}2017.json"


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
    folder = voc_folder(root, year)
    listing = folder / "ImageSets" / "Main" / f"{split}.txt"
    expected = [
        f"{root}/VOCdevkit/VOC{year}/   (or {root}/VOC{year}/)",
        f"    ImageSets/Main/{split}.txt   the names of the pictures",
        "    JPEGImages/NAME.jpg",
        "    Annotations/NAME.xml",
    ]
    if not listing.is_file():
        raise _missing(f"{name}: {listing} is not there", expected, root, folder, VOC)
    stems = voc.read_list(listing)
    if not stems:
        raise _missing(f"{name}: {listing} names no picture", expected, root, folder, VOC)
    for subfolder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        there = {path.name for path in (folder / subfolder).glob(f"*{suffix}")}
        gone = [stem for stem in stems if f"{stem}{suffix}" not in there]
        if gone:
            first = folder / subfolder / f"{gone[0]}{suffix}"
            problem = f"{name}: {first} is not there ({len(gone)} of {len(stems)} missing)"
            raise _missing(problem, expected, root, folder, VOC)
    findings = Findings(name)
    for stem in stems:  # 0.1 ms each: the frameworks, which read them next, would not say which file is wrong
        voc.check_annotation(folder / "Annotations" / f"{stem}.xml", findings)
    if problem := findings.first_error():
        raise UserError(f"{name}: {problem}; all of them: {VOC.command} --out {root}")
    return VocSplit(name, folder, year, split)


def _coco(name: str, root: Path, split: str) -> CocoSplit:
    folder, images, annotations = root / "coco", coco_images(root, split), coco_annotations(root, split)
    expected = [f"{folder}/", f"    annotations/{annotations.name}", f"    {images.name}/*.jpg"]

    def refuse(problem: str) -> UserError:
        return _missing(f"{name}: {problem}", expected, root, folder, COCO)

    if (folder / UNPACKING).exists():
        raise refuse(f"{folder} is not complete: {(folder / UNPACKING).read_text().strip()}")
    if not annotations.is_file():
        raise refuse(f"{annotations} is not there")
    if not images.is_dir():
        raise refuse(f"{images} is not there")
    there = {entry.name for entry in os.scandir(images)}
    if not there:
        raise refuse(f"{images} is empty")
    if annotations.stat().st_size >= READ_WHOLE_BELOW:
        if odd := _odd_to_card(name, folder, annotations, len(there)):
            raise refuse(odd)
        return CocoSplit(name, images, annotations)
    findings = Findings(name)
    named = coco.check_content(read_json(annotations), findings)
    if problem := findings.first_error():
        raise UserError(f"{annotations}: {problem}; all of them: {COCO.command} --out {root}")
    if gone := [file for file in named if file not in there]:
        raise refuse(f"{images / gone[0]} is not there ({len(gone)} of {len(named)} missing)")
    return CocoSplit(name, images, annotations)


def _odd_to_card(name: str, folder: Path, annotations: Path, pictures: int) -> str:
    """Return what differs from what the last check found, "" for nothing, or where there was no check."""
    card = read_json(folder / VERIFIED) if (folder / VERIFIED).is_file() else {}
    if name not in card:
        return ""
    was, size = card[name], annotations.stat().st_size
    if size != was["annotation_bytes"]:
        return f"{annotations} has {size:,} bytes, and had {was['annotation_bytes']:,} when it was checked"
    if pictures < was["pictures"]:
        return f"{pictures:,} pictures are left of the {was['pictures']:,} that were checked"
    return ""


def _missing(problem: str, expected: list[str], root: Path, folder: Path, family: Family) -> UserError:
    """Return the error: what is wrong in the first line, then the tree, then what is there, then the remedy."""
    lines = [problem, "expected:", *(f"  {line}" for line in expected), "found:", *_found(root, folder)]
    lines += [
        "prepare:",
        f"  {family.command} --out {root}   checks what is there and says where the archives are",
        f"  python tools/prepare_demo.py --out {root}   the small semi-synthetic demo, in the same layout",
        "  another folder: --data-root DIR or DATA_ROOT=DIR",
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
