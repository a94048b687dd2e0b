"""Pictures of detections: what was found, what was missed, and what is not there, in one panel or side by side.

A class has one colour everywhere. A detection that is right is drawn by a solid line, a false one by a dashed line
with its label on black, a missed object by a white dotted line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pretrain.files import atomic_path
from transfer.matching import Objects, match

Colour = tuple[int, int, int]
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
# Okabe and Ito's colours, which people with any of the usual colour-blindnesses tell apart (Wong, Nature Methods 8,
# 2011), without their black; then the same lighter, then darker: 21 in all, the twenty classes of VOC in one go.
HUES: tuple[Colour, ...] = (
    *((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66)),
    *((0, 114, 178), (213, 94, 0), (204, 121, 167)),
)
TOWARDS = ((0.0, WHITE), (0.5, WHITE), (0.55, BLACK))  # share and goal of each round of the seven
LONGEST = 1600  # pixels: no panel is enlarged beyond this, and larger pictures are reduced to it
TEXT = 14  # pixels
GAP = 6  # pixels between panels
LEGEND = "solid: right (IoU 0.5 or more)   dashed: false   white dotted: missed"
DASH, DOT = 12.0, 4.0  # pixels


@dataclass(frozen=True)
class Panel:
    """A picture of a row: the detections of one run, or the true objects where `found` is None."""

    title: str
    found: Objects | None = None


def colour_of(label: int) -> Colour:
    """Return the colour of a class; after 21 classes they repeat."""
    share, goal = TOWARDS[label // len(HUES) % len(TOWARDS)]
    red, green, blue = (
        round((1 - share) * own + share * other) for own, other in zip(HUES[label % len(HUES)], goal, strict=True)
    )
    return red, green, blue


def overlay(image: Image.Image, truth: Objects, found: Objects, classes: Sequence[str], shorter: int) -> Image.Image:
    """Draw detections over the true boxes, which are white: thin and solid where seen, dotted where missed.

    Args:
        image: Any mode.
        truth: The true objects.
        found: The detections to draw.
        classes: Names of the classes.
        shorter: Smaller pictures are enlarged until their shorter side has so many pixels.
    """
    picture, scale = _resized(image, shorter)
    _, seen = match(truth, found)
    pen = ImageDraw.Draw(picture)
    for box in scale * truth.boxes[seen]:
        _frame(pen, box, WHITE, width=1)
    _draw_found(picture, scale, truth, found, classes)
    return picture


def side_by_side(
    image: Image.Image, truth: Objects, panels: Sequence[Panel], classes: Sequence[str], shorter: int = 360
) -> Image.Image:
    """Draw one panel beside the other, each under a line with its title and a line with its counts.

    Args:
        image: Any mode.
        truth: The true objects.
        panels: From left to right.
        classes: Names of the classes.
        shorter: As in `overlay`, of each panel.
    """
    picture, scale = _resized(image, shorter)
    line = TEXT + 6
    width, height = picture.size
    total = len(panels) * (width + GAP) - GAP
    row = Image.new("RGB", (total, height + 2 * line + line), WHITE)
    pen = ImageDraw.Draw(row)
    for index, panel in enumerate(panels):
        drawn, left = picture.copy(), index * (width + GAP)
        if panel.found is None:
            counts = f"objects: {len(truth.labels)}"
            labels = _Labels(drawn)
            for box, label in zip(scale * truth.boxes, truth.labels, strict=True):
                _frame(ImageDraw.Draw(drawn), box, colour_of(label), width=3)
                labels.add(box, classes[label], colour_of(label), filled=True)
            labels.draw()
        else:
            right, seen = _draw_found(drawn, scale, truth, panel.found, classes)
            counts = f"right {right.sum()}, missed {(~seen).sum()}, false {(~right).sum()}"
        row.paste(drawn, (left, 2 * line))
        for number, text in enumerate((panel.title, counts)):
            pen.text((left + 3, number * line + 3), _fitted(text, width - 6, TEXT), fill=BLACK, font=_font(TEXT))
    small = TEXT - 2
    pen.text((3, height + 2 * line + 3), _fitted(LEGEND, total - 6, small), fill=(90, 90, 90), font=_font(small))
    return row


def contact_sheet(rows: Sequence[tuple[str, Image.Image]], columns: int) -> Image.Image:
    """Lay pictures out in columns, each under its name.

    Args:
        rows: (name, picture) each, in reading order; at least one.
        columns: Number of pictures beside each other.
    """
    line, margin = TEXT + 8, 10
    columns = min(columns, len(rows))
    width = max(image.width for _, image in rows) + margin
    lines = [rows[start : start + columns] for start in range(0, len(rows), columns)]
    heights = [max(image.height for _, image in entries) + line + margin for entries in lines]
    sheet = Image.new("RGB", (columns * width + margin, sum(heights) + margin), WHITE)
    pen, top = ImageDraw.Draw(sheet), margin
    for entries, height in zip(lines, heights, strict=True):
        for column, (name, image) in enumerate(entries):
            left = margin + column * width
            pen.text((left + 3, top), _fitted(name, image.width - 6, TEXT + 2), fill=BLACK, font=_font(TEXT + 2))
            sheet.paste(image, (left, top + line))
        top += height
    return sheet


def save(image: Image.Image, path: Path) -> Path:
    """Write a PNG or a JPEG, as the path's suffix says, so that no half of one is left behind."""
    with atomic_path(path, durable=False) as temporary:
        image.save(temporary, quality=90)
    return path


def _resized(image: Image.Image, shorter: int) -> tuple[Image.Image, float]:
    """Return an RGB copy, enlarged or reduced to what is legible, and the scale."""
    scale = min(max(1.0, shorter / min(image.size)), LONGEST / max(image.size))
    size = max(1, round(scale * image.width)), max(1, round(scale * image.height))
    return image.convert("RGB").resize(size, Image.Resampling.BICUBIC), scale


def _draw_found(
    picture: Image.Image, scale: float, truth: Objects, found: Objects, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw detections and missed objects; return what `match` returns."""
    right, seen = match(truth, found)
    best_first = np.lexsort((-found.scores, ~right))
    split = int(right.sum())
    pen, labels = ImageDraw.Draw(picture), _Labels(picture)

    def frames(indices: np.ndarray) -> None:
        for index in indices[::-1]:
            colour = colour_of(found.labels[index])
            _frame(
                pen,
                scale * found.boxes[index],
                colour,
                width=3 if right[index] else 2,
                dash=0.0 if right[index] else DASH,
            )

    def texts(indices: np.ndarray) -> None:
        for index in indices:
            text = f"{classes[found.labels[index]]} {found.scores[index]:.2f}" + ("" if right[index] else " false")
            labels.add(scale * found.boxes[index], text, colour_of(found.labels[index]), filled=bool(right[index]))

    frames(best_first[split:])
    for box in scale * truth.boxes[~seen]:
        _frame(pen, box, WHITE, width=2, dash=DOT)
    frames(best_first[:split])
    texts(best_first[:split])
    for box, label in zip(scale * truth.boxes[~seen], truth.labels[~seen], strict=True):
        labels.add(box, f"missed {classes[label]}", WHITE, filled=False)
    texts(best_first[split:])
    labels.draw()
    return right, seen


def _frame(pen: ImageDraw.ImageDraw, box: np.ndarray, colour: Colour, width: int, dash: float = 0.0) -> None:
    """Draw a box, given in pixels of the panel, with an edge of black or white, so that it shows on any ground."""
    x0, y0, x1, y1 = box.tolist()
    corners = [(x0, y0), (max(x0, x1), y0), (max(x0, x1), max(y0, y1)), (x0, max(y0, y1))]
    for start, end in zip(corners, corners[1:] + corners[:1], strict=True):
        for ink, thick in ((_readable_on(colour), width + 2), (colour, width)):
            for piece in _dashes(start, end, dash) if dash else [(start, end)]:
                pen.line(piece, fill=ink, width=thick)


def _dashes(
    start: tuple[float, float], end: tuple[float, float], length: float
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Cut a line into dashes and gaps of about the same length; it begins and ends with a dash."""
    whole = math.dist(start, end)
    pieces = max(1, 2 * round(whole / length / 2) + 1)
    points = [
        (start[0] + (end[0] - start[0]) * step / pieces, start[1] + (end[1] - start[1]) * step / pieces)
        for step in range(pieces + 1)
    ]
    return [(points[step], points[step + 1]) for step in range(0, pieces, 2)]


class _Labels:
    """The texts of one panel: each inside the picture, and clear of those placed before it where there is room."""

    def __init__(self, picture: Image.Image) -> None:
        self._picture = picture
        self._placed: list[tuple[tuple[float, float, float, float], str, Colour, bool]] = []

    def add(self, box: np.ndarray, text: str, colour: Colour, filled: bool) -> None:
        """Place the label of a box: above it, inside its top, below it, or elsewhere at its edge."""
        width, height = self._picture.size
        text = _fitted(text, width - 6, TEXT)
        wide, high = _font(TEXT).getlength(text) + 6, TEXT + 5
        x0, y0, x1, y1 = box.tolist()
        above, inside, below, lowest = y0 - high, y0 + 2, y1 + 1, y1 - high - 1
        corners = [(x0, above), (x0, inside), (x0, below), (x0, lowest), (x1 - wide, above), (x1 - wide, below)]
        corners += [(x1 + 2, y0), (x0 - wide - 2, y0), (x1 + 2, lowest), (x0 - wide - 2, lowest)]
        corners += [(x0, above - high), (x0, below + high)]
        places = [
            (min(max(left, 0.0), max(width - wide, 0.0)), min(max(top, 0.0), max(height - high, 0.0)))
            for left, top in corners
        ]
        areas = [(left, top, left + wide, top + high) for left, top in places]
        crowded = [sum(_common(area, other) for other, *_ in self._placed) for area in areas]
        self._placed.append((areas[int(np.argmin(crowded))], text, colour, filled))

    def draw(self) -> None:
        """Write all texts above all boxes, those added first on top."""
        pen = ImageDraw.Draw(self._picture)
        for area, text, colour, filled in reversed(self._placed):
            ground, ink = (colour, _readable_on(colour)) if filled else (BLACK, WHITE)
            pen.rectangle((area[0], area[1], area[2] - 1, area[3] - 1), fill=ground, outline=colour)
            pen.text((area[0] + 3, area[1] + 1), text, fill=ink, font=_font(TEXT))


def _common(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> float:
    """Return the area that two rectangles share."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)


def _readable_on(ground: Colour) -> Colour:
    """Return black or white, whichever stands out from the ground (weights of ITU-R BT.601)."""
    red, green, blue = ground
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 125 else WHITE


def _fitted(text: str, width: float, size: int) -> str:
    """Return the text, cut short where it is wider than so many pixels."""
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..." if text else ""


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)
