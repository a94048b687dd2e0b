"""Writing the annotations of the demo in the layouts of VOC, COCO, CUB_200_2011 and wsolevaluation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pycocotools.mask
import skimage.measure

from pretrain.data.demo.drawings import VOC_CLASSES
from pretrain.data.demo.scenes import Mask, SceneObject
from pretrain.files import write_json, write_text

CREDIT = "Drawings: OpenMoji, openmoji.org, CC BY-SA 4.0, changed. Photographs: scikit-image."
WHAT = "Semi-synthetic demo: drawings on photographs"


@dataclass(frozen=True)
class Annotated:
    """A written picture with its size (width, height) in pixels and its objects."""

    path: Path
    size: tuple[int, int]
    objects: list[SceneObject]


def write_voc_annotation(path: Path, picture: Annotated, year: int) -> None:
    """Write one picture's VOC annotation.

    Coordinates are VOC's: pixel numbers from 1, the far corner inclusive. `truncated` and `occluded` follow VOC's
    guidelines (see `SceneObject`); `occluded` is written from 2008 on, as in VOC itself. The pose is Unspecified, for
    the drawings were rotated and flipped.
    """
    root = ElementTree.Element("annotation")
    _tree(root, {"folder": f"VOC{year}", "filename": picture.path.name})
    _tree(
        ElementTree.SubElement(root, "source"), {"database": WHAT, "annotation": "exact, from alpha", "image": CREDIT}
    )
    _tree(ElementTree.SubElement(root, "size"), {"width": picture.size[0], "height": picture.size[1], "depth": 3})
    _tree(root, {"segmented": 0})
    for thing in picture.objects:
        node = ElementTree.SubElement(root, "object")
        _tree(node, {"name": thing.label, "pose": "Unspecified", "truncated": int(thing.truncated)})
        if year >= 2008:
            _tree(node, {"occluded": int(thing.occluded)})
        _tree(node, {"difficult": int(thing.difficult)})
        x0, y0, x1, y1 = thing.box
        corners = {"xmin": x0 + 1, "ymin": y0 + 1, "xmax": x1, "ymax": y1}
        _tree(ElementTree.SubElement(node, "bndbox"), corners)
    ElementTree.indent(root, "\t")
    write_text(path, ElementTree.tostring(root, encoding="unicode") + "\n")


def _tree(parent: ElementTree.Element, texts: dict[str, Any]) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)


def write_voc_lists(year_folder: Path, lists: Mapping[str, Sequence[str]]) -> None:
    """Write ImageSets/Main/<split>.txt, one picture's name without suffix a line."""
    for split, names in lists.items():
        write_text(year_folder / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{name}\n" for name in names))


def polygons(mask: Mask) -> list[list[float]]:
    """Return outlines of an (H, W) mask as COCO polygons [x0, y0, x1, y1, ...]; holes are filled, specks left out.

    Coordinates count from the picture's corner, so the middle of the first pixel is (0.5, 0.5).
    """
    padded = np.pad(mask.astype(np.float64), 1)
    found = []
    # fully_connected="high" joins true pixels that touch at a corner; true lies to the left of the contour
    for contour in skimage.measure.find_contours(padded, 0.5, fully_connected="high"):
        ys, xs = contour[:-1, 0] - 0.5, contour[:-1, 1] - 0.5
        signed_area = 0.5 * float(np.dot(xs, np.roll(ys, -1)) - np.dot(ys, np.roll(xs, -1)))
        if signed_area >= 2:  # outer contours are positive, holes negative
            found.append([round(float(value), 1) for pair in zip(xs, ys) for value in pair])
    return found


def coco_annotation(thing: SceneObject, annotation_id: int, image_id: int) -> dict[str, Any]:
    """Return an object as a COCO annotation; `area` is that of the polygons as pycocotools rasterises them.

    `bbox` is x, y, width, height from 0 of the visible pixels. What VOC calls difficult is an ordinary object here,
    since COCO has no such mark.
    """
    x0, y0, x1, y1 = thing.box
    outlines = polygons(thing.mask) or [[x0, y0, x1, y0, x1, y1, x0, y1]]
    height, width = thing.mask.shape
    encoded = pycocotools.mask.merge(pycocotools.mask.frPyObjects(outlines, height, width))
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": VOC_CLASSES.index(thing.label) + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(pycocotools.mask.area(encoded)),
        "iscrowd": 0,
        "segmentation": outlines,
    }


def write_coco(root: Path, split: str, pictures: Sequence[Annotated], first_id: int) -> None:
    """Write ROOT/<split>2017/ with the pictures, hard-linked or copied, and annotations/instances_<split>2017.json.

    Args:
        root: The COCO folder.
        split: "train" or "val".
        pictures: With VOC's class names as labels.
        first_id: Number of the first picture, counted on from there; files are named by it with 12 digits.
    """
    images, annotations = [], []
    for image_id, picture in enumerate(pictures, start=first_id):
        name = f"{image_id:012d}.jpg"
        link_or_copy(picture.path, root / f"{split}2017" / name)
        images.append(
            {"id": image_id, "width": picture.size[0], "height": picture.size[1], "file_name": name, "license": 1}
        )
        annotations += [
            # unique over both splits, as in COCO: 100 numbers for each picture
            coco_annotation(thing, image_id * 100 + number, image_id)
            for number, thing in enumerate(picture.objects)
        ]
    licence = {"id": 1, "name": CREDIT, "url": "https://creativecommons.org/licenses/by-sa/4.0/"}
    categories = [
        {"id": number, "name": name, "supercategory": "object"} for number, name in enumerate(VOC_CLASSES, start=1)
    ]
    write_json(
        root / "annotations" / f"instances_{split}2017.json",
        {
            "info": {"description": f"{WHAT}. {CREDIT}", "version": "1.0", "year": 2017},
            "licenses": [licence],
            "images": images,
            "annotations": annotations,
            "categories": categories,
        },
    )


def write_picture(path: Path, encoded: bytes) -> None:
    """Write an encoded picture under a name that no loader looks at, and then give it its own.

    Unlike `atomic_path` this does not wait for the disk, which for thousands of small files would take longer than
    making them. Whoever goes on after a power cut checks `is_whole`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(encoded)
    part.replace(path)


def is_whole(path: Path) -> bool:
    """Return whether a JPEG file is there and ends as such files do."""
    try:
        with path.open("rb") as file:
            file.seek(-2, os.SEEK_END)
            return file.read() == b"\xff\xd9"
    except OSError:  # not there, or shorter than two bytes
        return False


def link_or_copy(source: Path, target: Path) -> None:
    """Give a picture a second name; copy it where the file system has no hard links. One already there is kept."""
    if is_whole(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        write_picture(target, source.read_bytes())


def write_cub(root: Path, classes: Sequence[str], splits: Mapping[str, Sequence[Annotated]]) -> None:
    """Write the CUB_200_2011 text files and wsolevaluation's metadata for pictures below ROOT/images.

    images.txt, train_test_split.txt and the rest know train and test only, as CUB does. The val pictures, which
    wsolevaluation adds to CUB (CUBV2), stand in metadata/val alone; their files lie beside the others.

    Args:
        root: The CUB_200_2011 folder.
        classes: Names in the order of their numbers, without the number.
        splits: Pictures of "train", "val" and "test", each with one object whose label is among the classes.
    """
    write_text(
        root / "classes.txt",
        "".join(f"{number} {cub_class(number, name)}\n" for number, name in enumerate(classes, start=1)),
    )
    columns: dict[str, list[str]] = {
        "images": [],
        "image_class_labels": [],
        "train_test_split": [],
        "bounding_boxes": [],
    }
    listed = [(picture, split) for split in ("train", "test") for picture in splits[split]]
    listed.sort(key=lambda pair: _image_id(root, pair[0]))  # by class, train and test mixed, as CUB numbers its images
    for number, (picture, split) in enumerate(listed, start=1):
        x0, y0, x1, y1 = (float(edge) for edge in picture.objects[0].box)
        columns["images"].append(f"{number} {_image_id(root, picture)}\n")
        columns["image_class_labels"].append(f"{number} {classes.index(picture.objects[0].label) + 1}\n")
        columns["train_test_split"].append(f"{number} {int(split == 'train')}\n")
        columns["bounding_boxes"].append(f"{number} {x0} {y0} {x1 - x0} {y1 - y0}\n")
    for name, lines in columns.items():
        write_text(root / f"{name}.txt", "".join(lines))
    for split, pictures in splits.items():
        _write_wsol_metadata(root, split, pictures, classes)


def cub_class(number: int, name: str) -> str:
    """Return a class's folder name, e.g. "007.duck"; numbers start from 1."""
    return f"{number:03d}.{name}"


def _image_id(root: Path, picture: Annotated) -> str:
    return picture.path.relative_to(root / "images").as_posix()


def _write_wsol_metadata(root: Path, split: str, pictures: Sequence[Annotated], classes: Sequence[str]) -> None:
    """Write metadata/<split>: labels from 0, boxes x0, y0, x1, y1 with x1 = x + width, as the reference has for CUB."""
    ordered = sorted(pictures, key=lambda picture: _image_id(root, picture))
    rows: dict[str, list[tuple[Any, ...]]] = {
        "image_ids": [()] * len(ordered),
        "class_labels": [(classes.index(picture.objects[0].label),) for picture in ordered],
        "image_sizes": [picture.size for picture in ordered],
        "localization": [picture.objects[0].box for picture in ordered],
    }
    for name, values in rows.items():
        lines = [",".join(map(str, (_image_id(root, picture), *row))) for picture, row in zip(ordered, values)]
        write_text(root / "metadata" / split / f"{name}.txt", "\n".join(lines))
