"""The contact sheet: the best and the worst cases of an evaluation on one page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from wsol.draw.cases import Case, add_boxes, box_legend, fitted, heated, save, show, shrunk
from wsol.draw.overlays import HIT, MISS

COLUMNS = 4
TILE = 1.9  # inches, both sides
GAP, MARGIN = 0.14, 0.16  # inches
WORDS = 0.36  # inches above a tile for the class and the IoU
HEAD, BLOCK_HEAD = 0.42, 0.34  # inches for the title and for the name of a block
DPI = 130


@dataclass(frozen=True, eq=False)
class _Tile:
    """What is kept of a case until the sheet is laid out: a small picture instead of the image."""

    picture: npt.NDArray[np.uint8]
    map_size: tuple[int, int]
    true_boxes: npt.NDArray[np.integer[Any]]
    estimated_box: npt.NDArray[np.integer[Any]]
    title: str
    line: str
    hit: bool


def draw_sheet(best: Iterable[Case], worst: Iterable[Case], path: str | Path, title: str = "") -> None:
    """Write a page with two blocks of small pictures under their score maps: the best cases and the worst.

    The images are taken one at a time and shrunk at once, so that two iterators never hold more than one of them.

    Args:
        best: From the best on; may be empty.
        worst: From the worst on; may be empty. The notes of both are written behind the IoU.
        path: Where to write; .png or .jpg.
        title: A line above everything.

    Raises:
        ValueError: There is no case at all.
    """
    save(sheet_figure(best, worst, title), path)


def sheet_figure(best: Iterable[Case], worst: Iterable[Case], title: str = "") -> Figure:
    """Return the figure that `draw_sheet` writes; see there."""
    blocks = {"best": [_tile(case) for case in best], "worst": [_tile(case) for case in worst]}
    blocks = {name: tiles for name, tiles in blocks.items() if tiles}
    if not blocks:
        raise ValueError("a contact sheet needs at least one case")
    columns = min(COLUMNS, max(2, *(len(tiles) for tiles in blocks.values())))
    rows = {name: -(-len(tiles) // columns) for name, tiles in blocks.items()}
    width = 2 * MARGIN + columns * (TILE + GAP) - GAP
    height = HEAD + sum(BLOCK_HEAD + count * (WORDS + TILE + GAP) for count in rows.values()) + MARGIN
    figure = Figure(figsize=(width, height), dpi=DPI)
    figure.text(
        MARGIN / width, 1 - 0.13 / height, fitted(figure, title, 11, width - 2 * MARGIN - 2.4, "bold"),
        size=11, weight="bold", va="top", parse_math=False,
    )  # fmt: skip
    box_legend(figure, (1 - MARGIN / width, 1 - 0.13 / height), "upper right")
    top = HEAD  # inches from the top
    for name, tiles in blocks.items():
        figure.text(MARGIN / width, 1 - (top + 0.08) / height, f"{name} {len(tiles)} by IoU", size=10, va="top")
        top += BLOCK_HEAD
        for number, tile in enumerate(tiles):
            row, column = divmod(number, columns)
            _draw(figure, tile, MARGIN + column * (TILE + GAP), top + row * (WORDS + TILE + GAP))
        top += rows[name] * (WORDS + TILE + GAP)
    return figure


def _tile(case: Case) -> _Tile:
    return _Tile(
        picture=heated(shrunk(case.image, round(TILE * DPI)), case.score_map),
        map_size=(case.score_map.shape[0], case.score_map.shape[1]),
        true_boxes=case.true_boxes,
        estimated_box=case.estimated_box,
        title=case.title,
        line=case.iou_text + (f", {case.note}" if case.note else ""),
        hit=case.hit,
    )


def _draw(figure: Figure, tile: _Tile, left: float, top: float) -> None:
    """Draw a tile whose corner lies so many inches from the figure's left and upper border."""
    width, height = figure.get_size_inches()
    place = (left / width, 1 - (top + WORDS + TILE) / height, TILE / width, TILE / height)
    axes = figure.add_axes(place, facecolor="#f2f2f2")
    show(axes, tile.picture, tile.map_size, square=True)
    add_boxes(axes, tile.true_boxes, tile.estimated_box, scale=0.8)
    for text, depth, weight, colour in (
        (tile.title, 0.03, "bold", "black"),
        (tile.line, 0.18, "normal", HIT if tile.hit else MISS),
    ):
        figure.text(
            left / width, 1 - (top + depth) / height, fitted(figure, text, 7.5, TILE, weight),
            size=7.5, weight=weight, color=colour, va="top", parse_math=False,
        )  # fmt: skip
