"""Names beside the points of a plot, where they cover neither points nor each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.path import Path
from matplotlib.transforms import Bbox

DISTANCES = (7, 16, 26, 38, 52, 68, 86)  # between a point and its name, in points of the page
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
MARKER = 5  # half of its size, points
SPACE = 1  # around a name, points
FONT_SIZE = 9


class _Place(NamedTuple):
    """Where a name may stand, in pixels, and the line that leads there; None right beside the point."""

    centre: Any
    box: Bbox
    line: tuple[Any, Any] | None


def write_beside(axes: Axes, points: Mapping[str, tuple[float, float, float]]) -> None:
    """Write each name beside its point, the highest point first; a line leads to a name that had to go further away.

    Call it last: what changes the limits or the layout afterwards moves points under names.

    Args:
        axes: Where the points are drawn.
        points: By name: x, y, and half the length of the error bar, which is kept free too.
    """
    figure: Any = axes.figure
    figure.draw_without_rendering()  # the layout decides where a point lies
    renderer: Any = FigureCanvasAgg(figure).get_renderer()
    dots = figure.dpi / 72  # pixels a point of the page
    marks = []
    for x, y, half in points.values():
        low, high = axes.transData.transform([(x, y - half), (x, y + half)])
        marks.append(Bbox([low, high]).padded(MARKER * dots))
    written: list[_Place] = []
    for name, (x, y, _) in sorted(points.items(), key=lambda each: -each[1][1]):
        text = axes.annotate(name, (x, y), (0, 0), textcoords="offset points", fontsize=FONT_SIZE, va="center")
        text.set(ha="center", in_layout=False)
        size = np.array(text.get_window_extent(renderer).padded(SPACE * dots).size)
        point = axes.transData.transform((x, y))
        place = min(_places(point, size, dots), key=lambda each: _covered(each, axes.bbox, marks, written))
        written.append(place)
        text.set_position(tuple((place.centre - point) / dots))
        if place.line is not None:
            end = tuple((place.line[1] - point) / dots)
            look = {"arrowstyle": "-", "lw": 0.6, "color": "#7f7f7f", "shrinkA": 0, "shrinkB": MARKER}
            axes.annotate("", (x, y), end, textcoords="offset points", arrowprops=look).set_in_layout(False)


def _places(point: Any, size: Any, dots: float) -> Iterator[_Place]:
    """Yield where a name of `size` pixels may stand, the best place first."""
    for distance, side in product(DISTANCES, SIDES):
        gap = distance * dots * (0.75 if all(side) else 1)
        centre = point + np.array(side) * (gap + size / 2)
        box = Bbox([centre - size / 2, centre + size / 2])
        nearest = np.clip(point, box.min, box.max)
        yield _Place(centre, box, None if distance == DISTANCES[0] else (point, nearest))


def _covered(place: _Place, inside: Bbox, marks: Sequence[Bbox], written: Sequence[_Place]) -> tuple[int, int]:
    """Return the points and names under a name, which are all where it leaves the plot, and what lines cross."""
    _, box, line = place
    within = inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1
    under = box.count_overlaps([*marks, *(other.box for other in written)])
    crossing = sum(_crosses(line, other.box) + _crosses(other.line, box) for other in written)
    crossing += sum(_crosses(line, mark) for mark in marks)  # its own too: no line is better than any
    return under if within else len(marks) + len(written), crossing


def _crosses(line: tuple[Any, Any] | None, box: Bbox) -> bool:
    return line is not None and Path(line).intersects_bbox(box)
