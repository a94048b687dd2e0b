"""The true boxes of CUB-200-2011, beside its arranged images: ROOT/metadata/{train,test}, and CUBV2 as val.

CUBV2 (Choe et al., CVPR 2020) is wsolevaluation's validation set for CUB: 1,000 more images of the same classes. Its
images go to ROOT/cubv2/<class>/, for ROOT/val/ holds CUB's test images.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from pretrain.archives.reading import Source, place
from pretrain.console import UserError, progress
from pretrain.data.card import DataCard
from pretrain.data.prepare.arrange import DataSet
from pretrain.data.prepare.command import arguments, find_or_fetch, prepare
from pretrain.data.prepare.cub import CLASSES, IMAGES, LABELS, SPLIT, SPLITS
from pretrain.data.prepare.labels import pairs
from pretrain.data.prepare.localisation import METADATA, PUBLISHED, Located, compared, read_split, write_split
from pretrain.data.prepare.subset import some

BOXES = "bounding_boxes.txt"
CUBV2 = "cubv2"
NAMES = {"train": "train", "val": "test"}  # the arranged tree's names of CUB's splits, and wsolevaluation's
EACH = range(3, 7)  # images that a class has in CUBV2


def run(data_set: DataSet, description: str | None) -> None:
    """Parse the command line, arrange CUB with its boxes, and with CUBV2 if that is given, and print what there is."""
    command = arguments([data_set], description)
    command.add_argument("--cubv2", type=Path, metavar="PATH", help="CUBV2's images, a folder or CUBV2.tar")
    command.add_argument(
        "--cubv2-metadata", type=Path, metavar="PATH", help="a clone of wsolevaluation, or its metadata/CUB/val"
    )
    args = command.parse_args()
    if (args.cubv2 is None) != (args.cubv2_metadata is None):
        raise UserError(
            "CUBV2 needs both: --cubv2 CUBV2.tar (its images) and --cubv2-metadata DIR (a clone of "
            "https://github.com/clovaai/wsolevaluation, whose dataset/prepare_cub.sh says where the images are)"
        )
    val = read_cubv2(args.cubv2_metadata) if args.cubv2 else []
    out, card = prepare([data_set], args)
    try:
        add_boxes(data_set, args, out, card)
        if val:
            add_cubv2(val, args.cubv2, out, card)
    except UserError as error:
        raise UserError(f"{error} (the images in {out} are in place all the same, to train on)") from error
    there = [split for split in PUBLISHED if (out / METADATA / split).is_dir()]
    print(f"  localisation: {out / METADATA}")
    for split in there:
        print(f"    {compared(split, read_split(out / METADATA / split))}")
    if "val" not in there:
        print("    no val: that is CUBV2, see --cubv2")


def add_boxes(data_set: DataSet, args: argparse.Namespace, out: Path, card: DataCard) -> None:
    """Write OUT/metadata/{train,test}, unless they are there, for the images that OUT holds.

    Raises:
        UserError: CUB's own files are not where the arguments say, or their boxes are wrong.
    """
    if all((out / METADATA / name).is_dir() for name in NAMES.values()):
        return
    source = find_or_fetch(data_set, args)["images"]
    contents = source.read([IMAGES, LABELS, SPLIT, CLASSES, BOXES])
    images, labels, split, boxes = (pairs(contents, name) for name in (IMAGES, LABELS, SPLIT, BOXES))
    located: dict[str, list[Located]] = {part: [] for part in NAMES}
    for number, name in images.items():  # the order of images.txt is that of wsolevaluation's files
        part = SPLITS[split[number]]
        path = out / part / name
        box = corners(source, number, boxes)
        if path.is_file():
            located[part].append(Located(name, int(labels[number]) - 1, _size(path), box))
    for part, found in located.items():
        if len(found) != card.images[part]:
            raise UserError(
                f"{out / part}: {len(found):,} of its {card.images[part]:,} images are in {source.path}; are they of "
                "one data set?"
            )
        compared(NAMES[part], found)
    for part, found in located.items():
        if not (out / METADATA / NAMES[part]).is_dir():
            write_split(out, NAMES[part], found)


def corners(source: Source, number: str, boxes: Mapping[str, str]) -> tuple[int, ...]:
    """Return x0, y0, x1, y1 of CUB's "x y width height", truncated as wsolevaluation's are.

    Raises:
        UserError: There is no such line, or it does not hold four numbers from 0.
    """
    values = _numbers(boxes.get(number, ""))
    if len(values) != 4 or not all(0 <= value < math.inf for value in values):
        raise UserError(
            f"{source.path}: {BOXES} has '{boxes.get(number, 'nothing')}' for image {number}, and x, y, width and "
            "height are due; download it again"
        )
    x, y, width, height = values
    return int(x), int(y), int(x + width), int(y + height)


def _numbers(text: str) -> list[float]:
    try:
        return [float(field) for field in text.split()]
    except ValueError:
        return []


def read_cubv2(path: Path) -> list[Located]:
    """Read CUBV2's images and boxes from a clone of wsolevaluation, or from a folder in it.

    The boxes of its release/CUBV2_boxes.txt will not do: that file is headed x0,y0,x1,y1 and holds x, y, width, height.

    Raises:
        UserError: The files are not there, or not those of CUBV2.
    """
    folders = [path / below for below in ("", "val", "CUB/val", "metadata/CUB/val")]
    folder = next((each for each in folders if (each / "image_ids.txt").is_file()), None)
    if folder is None:
        raise UserError(
            f"{path}: no image_ids.txt in it or in {folders[-1]}; give a clone of wsolevaluation or its "
            "metadata/CUB/val. release/CUBV2_boxes.txt will not do: it is headed x0,y0,x1,y1 and holds x, y, width, "
            "height"
        )
    images = read_split(folder)
    if not images:
        raise UserError(f"{folder / 'image_ids.txt'}: no image in it; get it again")
    compared("val", images)
    each = Counter(image.label for image in images)
    if len(images) == PUBLISHED["val"][0] and not all(number in EACH for number in each.values()):
        raise UserError(f"{folder}: {min(each.values())} to {max(each.values())} images a class, and CUBV2 has 3 to 6")
    return images


def add_cubv2(images: list[Located], path: Path, out: Path, card: DataCard) -> None:
    """Place CUBV2's images as OUT/cubv2/<class>/ and then write OUT/metadata/val, unless that is there.

    Raises:
        UserError: An image is missing or not of the size that the metadata say, or they are not of CUB's classes.
    """
    if (out / METADATA / "val").is_dir():
        return
    for image in images:
        folder = image.image_id.partition("/")[0]
        if folder not in card.classes or card.classes.index(folder) != image.label:
            raise UserError(f"CUBV2: '{image.image_id}' has the label {image.label}, which is not its class of CUB's")
        if any((out / part / image.image_id).is_file() for part in NAMES):
            raise UserError(f"CUBV2: '{image.image_id}' is one of CUB's own images; give the metadata of val")
    target, partial = out / CUBV2, out / f"{CUBV2}.partial"
    if target.is_dir():
        target.replace(partial)  # of a run that was interrupted before the metadata
    wanted = {image.image_id: image for image in images}
    with progress("CUBV2", len(images)) as advance:
        for image_id, member in _source(path, images[0].image_id).pick(wanted, _class_and_name):
            place(member, partial / image_id)
            if (size := _size(partial / image_id)) != wanted[image_id].size:
                raise UserError(f"{path}: '{image_id}' is {size} pixels, and its metadata say {wanted[image_id].size}")
            advance()
    if missing := [image_id for image_id in wanted if not (partial / image_id).is_file()]:
        raise UserError(f"{path}: {len(missing):,} of CUBV2's {len(images):,} images are not in it: {some(missing)}")
    partial.replace(target)
    write_split(out, "val", images)


def _source(path: Path, first: str) -> Source:
    """Return CUBV2's images: a tar, or a folder with or below which its class folders lie."""
    if not path.exists():
        raise UserError(f"{path}: no such file; wsolevaluation's dataset/prepare_cub.sh says where CUBV2.tar is")
    if path.is_file():
        return Source(path)
    places = [path / below for below in ("", "CUBV2", "images", "CUB")]
    return Source(next((each for each in places if (each / first).is_file()), path))


def _class_and_name(member: str) -> str:
    return "/".join(member.split("/")[-2:])


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise UserError(f"{path}: not a readable image ({error}); get it again") from error
