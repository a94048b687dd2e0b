"""A contact sheet of the demo's four sets, with the boxes as their annotation files give them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from defusedxml import ElementTree
from PIL import Image, ImageDraw, ImageFont

from pretrain.console import UserError
from pretrain.data.demo.drawings import VOC_CLASSES
from pretrain.data.demo.layouts import CREDIT, WHAT
from pretrain.files import atomic_path, read_json

SCALE = 2
GAP = 8
COLUMNS = {"classification": 13, "VOC": 7, "COCO": 7, "CUB": 6}
COLOURS = ("#e6194b", "#0b7bd6", "#2a9d2a", "#c77700", "#8a2be2", "#008b8b", "#c71585")


@dataclass
class Tile:
    """A picture, its caption, and what is drawn on it: boxes x0, y0, x1, y1 from 0 with names, and outlines."""

    path: Path
    caption: str
    boxes: list[tuple[str, tuple[float, float, float, float]]] = field(default_factory=list)
    outlines: list[list[float]] = field(default_factory=list)


def draw_sheet(root: str | Path, target: str | Path, rows: int = 2) -> None:
    """Draw `rows` rows of pictures of each set into a PNG, spread evenly over the set, and the credit below.

    Raises:
        UserError: `root` holds no complete demo.
    """
    root = Path(root)
    if not (root / "complete.json").exists():
        raise UserError(f"{root}: no complete demo data; make it: python tools/prepare_demo.py --out {root}")
    sets = {
        "classification": ("classification/val: one drawing a class (ImageFolder)", _classification(root)),
        "VOC": ("VOCdevkit/VOC2007 test: VOC's twenty classes", _voc(root / "VOCdevkit" / "VOC2007")),
        "COCO": ("coco/train2017: the pictures of the two VOC trainvals, with polygons", _coco(root / "coco")),
        "CUB": ("CUB_200_2011: the bird drawings", _cub(root / "CUB_200_2011")),
    }
    strips = [
        _strip(title, _spread(tiles, rows * COLUMNS[name]), COLUMNS[name]) for name, (title, tiles) in sets.items()
    ]
    strips.append(_text_strip(f"{WHAT}. {CREDIT}"))
    sheet = Image.new("RGB", (max(strip.width for strip in strips), sum(strip.height for strip in strips)), "white")
    y = 0
    for strip in strips:
        sheet.paste(strip, (0, y))
        y += strip.height
    with atomic_path(target) as temporary:
        sheet.save(temporary, "PNG")


def _spread(tiles: Sequence[Tile], number: int) -> list[Tile]:
    """Return `number` tiles at even distances, or all."""
    step = max(len(tiles) / number, 1.0)
    return [tiles[int(index * step)] for index in range(min(number, len(tiles)))]


def _classification(root: Path) -> list[Tile]:
    return [Tile(path, path.parent.name) for path in sorted((root / "classification" / "val").glob("*/*_0000.jpg"))]


def _voc(year: Path) -> list[Tile]:
    tiles = []
    for name in (year / "ImageSets" / "Main" / "test.txt").read_text(encoding="utf-8").split():
        tile = Tile(year / "JPEGImages" / f"{name}.jpg", "")
        for thing in ElementTree.parse(year / "Annotations" / f"{name}.xml").findall("object"):
            corners = [float(thing.findtext(f"bndbox/{edge}", "nan")) for edge in ("xmin", "ymin", "xmax", "ymax")]
            marks = [mark for mark in ("truncated", "difficult") if thing.findtext(mark) == "1"]
            box = (corners[0] - 1, corners[1] - 1, corners[2], corners[3])
            tile.boxes.append((" ".join([thing.findtext("name", ""), *(mark[:5] + "." for mark in marks)]), box))
        tiles.append(tile)
    return tiles


def _coco(root: Path) -> list[Tile]:
    content = read_json(root / "annotations" / "instances_train2017.json")
    tiles = {image["id"]: Tile(root / "train2017" / image["file_name"], "") for image in content["images"]}
    for thing in content["annotations"]:
        x, y, width, height = thing["bbox"]
        tile = tiles[thing["image_id"]]
        tile.boxes.append((VOC_CLASSES[thing["category_id"] - 1], (x, y, x + width, y + height)))
        tile.outlines += thing["segmentation"]
    return list(tiles.values())


def _cub(root: Path) -> list[Tile]:
    names, boxes = (
        dict(line.split(" ", 1) for line in (root / f"{name}.txt").read_text(encoding="utf-8").splitlines())
        for name in ("images", "bounding_boxes")
    )
    tiles = []
    for number, name in names.items():
        x, y, width, height = (float(value) for value in boxes[number].split())
        tiles.append(Tile(root / "images" / name, name.split("/")[0], [("", (x, y, x + width, y + height))]))
    return tiles


def _strip(title: str, tiles: Sequence[Tile], columns: int) -> Image.Image:
    """Return the tiles in rows of `columns` below a title."""
    drawn = [_draw(tile) for tile in tiles]
    cell_width, cell_height = max(image.width for image in drawn), max(image.height for image in drawn)
    rows = list(_rows(drawn, columns))
    size = (columns * (cell_width + GAP) + GAP, len(rows) * (cell_height + GAP) + 34)
    strip = Image.new("RGB", size, "white")
    ImageDraw.Draw(strip).text((GAP, 6), title, fill="black", font=ImageFont.load_default(20))
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            strip.paste(image, (GAP + column * (cell_width + GAP), 34 + row * (cell_height + GAP)))
    return strip


def _rows(images: list[Image.Image], columns: int) -> Iterator[list[Image.Image]]:
    rest = iter(images)
    while row := list(islice(rest, columns)):
        yield row


def _draw(tile: Tile) -> Image.Image:
    """Return a picture enlarged SCALE times, with its boxes and outlines, and the caption below."""
    with Image.open(tile.path) as file:
        picture = file.convert("RGB")
    width, height = picture.width * SCALE, picture.height * SCALE
    canvas = Image.new("RGB", (width, height + (20 if tile.caption else 0)), "white")
    canvas.paste(picture.resize((width, height), Image.Resampling.BICUBIC), (0, 0))
    draw, small = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for outline in tile.outlines:
        draw.polygon([value * SCALE for value in outline], outline="#ffe600")
    for number, (name, box) in enumerate(tile.boxes):
        colour = COLOURS[number % len(COLOURS)]
        x0, y0, x1, y1 = (value * SCALE for value in box)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=2)
        if name:
            corner = (x0, max(y0 - 15, 0))
            draw.rectangle(draw.textbbox(corner, name, font=small), fill=colour)
            draw.text(corner, name, fill="white", font=small)
    draw.text((2, height + 2), tile.caption, fill="black", font=small)
    return canvas


def _text_strip(text: str) -> Image.Image:
    font = ImageFont.load_default(18)
    strip = Image.new("RGB", (int(font.getlength(text)) + 2 * GAP, 34), "white")
    ImageDraw.Draw(strip).text((GAP, 6), text, fill="black", font=font)
    return strip
