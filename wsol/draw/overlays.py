"""Pictures of single images: the image with its boxes, and beside it the same under its score map."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from wsol.draw.cases import (
    MAP_COLOURS,
    STRONGEST,
    Case,
    add_boxes,
    box_legend,
    fitted,
    heated,
    save,
    show,
    shrunk,
)
from wsol.errors import IOU

LONGEST = 520  # pixels of a panel's longer side
PANEL = 2.75  # inches of a panel's longer side
GAP, MARGIN, BAR = 0.12, 0.12, 0.55  # inches: between the panels, around all, and for the scale of the scores
HEAD, FOOT = 0.52, 0.34  # inches for the words above and for the legend below
NARROWEST = 4.0  # inches: a line of words needs so much, also above a tall image
HIT, MISS = "#00734f", "#b3261e"


def draw_overlays(cases: Iterable[Case], folder: str | Path) -> list[str]:
    """Draw each case into a file of its own, one after the other, so that an iterator never holds more than one.

    Pictures of an earlier run in the folder are removed.

    Returns:
        The names of the files in the cases' order, with the folder's own before them: "overlays/000_owl_0012.png".
    """
    folder = Path(folder)
    for earlier in folder.glob("*.png"):
        if re.fullmatch(r"\d{3,}_.*", earlier.name):
            earlier.unlink()
    names = []
    for number, case in enumerate(cases):
        stem = re.sub(r"[^\w.-]+", "_", Path(case.image_id).stem)
        path = folder / f"{number:03d}_{stem}.png"
        draw_overlay(path, case)
        names.append(f"{folder.name}/{path.name}")
    return names


def draw_overlay(path: str | Path, case: Case) -> None:
    """Write a picture of one case: the image with its boxes, and beside it the same under its score map."""
    save(overlay_figure(case), path)


def overlay_figure(case: Case) -> Figure:
    """Return the figure that `draw_overlay` writes; see there."""
    image = shrunk(case.image, LONGEST)
    aspect = min(max(image.height / image.width, 0.2), 5.0)  # of the panel; a longer image has room beside it
    wide, high = (PANEL, PANEL * aspect) if aspect < 1 else (PANEL / aspect, PANEL)
    panels = 2 * wide + GAP
    width = max(MARGIN + panels + BAR + MARGIN, NARROWEST)
    height = HEAD + high + FOOT
    left = (width - panels - BAR) / 2
    figure = Figure(figsize=(width, height), dpi=160)
    for number, picture in enumerate((np.asarray(image), heated(image, case.score_map))):
        place = ((left + number * (wide + GAP)) / width, FOOT / height, wide / width, high / height)
        axes = figure.add_axes(place)
        show(axes, picture, (case.score_map.shape[0], case.score_map.shape[1]))
        add_boxes(axes, case.true_boxes, case.estimated_box)
    _scale_of_scores(figure, ((left + panels + 0.1) / width, FOOT / height, 0.09 / width, high / height))
    words: dict[str, Any] = {"x": MARGIN / width, "ha": "left", "va": "top", "parse_math": False}
    room = width - 2 * MARGIN
    figure.text(s=fitted(figure, case.title, 10, room, "bold"), y=1 - 0.08 / height, size=10, weight="bold", **words)
    needed = IOU / 100
    verdict = f"{case.iou_text}: " + (f"hit, at least {needed:.2f}" if case.hit else f"miss, below {needed:.2f}")
    line = fitted(figure, f"{verdict}; {case.note}" if case.note else verdict, 8, room)
    figure.text(s=line, y=1 - 0.29 / height, size=8, color=HIT if case.hit else MISS, **words)
    box_legend(figure, (0.5, 0.07 / height))
    return figure


def _scale_of_scores(figure: Figure, place: tuple[float, float, float, float]) -> None:
    """Draw the colours of the scores as they are over a white image."""
    scores = np.linspace(0, 1, 256)[:, None]
    colours = ScalarMappable(cmap=MAP_COLOURS).get_cmap()(scores[:, 0])[:, :3]
    over_white = ListedColormap(STRONGEST * scores * colours + 1 - STRONGEST * scores)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), over_white), cax=figure.add_axes(place))
    bar.set_ticks([0, 0.5, 1], labels=["0", "score", "1"])
    bar.ax.tick_params(labelsize=7, length=2, pad=2)
    bar.outline.set_linewidth(0.4)
