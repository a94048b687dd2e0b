"""One image of an evaluation, and how its score map and its boxes are drawn in every picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import AbstractPathEffect, Normal, Stroke
from PIL import Image

from pretrain.files import atomic_path
from wsol.errors import IOU

Anchor = Literal["lower center", "upper right"]


class Look(NamedTuple):
    """A line: its colour, its width in points, and its dashes as matplotlib takes them."""

    colour: str
    width: float
    style: str | tuple[float, tuple[float, ...]]


TRUE_COLOUR, ESTIMATE_COLOUR = "#2bf07a", "#ff3b30"
# Whoever cannot tell green from red tells the thick line from the dashed one.
TRUE_LINE = Look(TRUE_COLOUR, 2.4, "-")
ESTIMATE_LINE = Look(ESTIMATE_COLOUR, 1.9, (0, (3.5, 1.5)))
MAP_COLOURS = "inferno"  # lightness rises evenly with the score, so that it reads the same without colour
STRONGEST = 0.75  # opacity of the highest score; the lowest is transparent


@dataclass(frozen=True, eq=False)
class Case:
    """One image, as the metric saw it.

    Attributes:
        image_id: Path of the image below the image folder; names the picture's file.
        image: The image, of any size and mode.
        score_map: (H, W) float in [0, 1], of the image resized to H x W.
        true_boxes: (n, 4) int, x0, y0, x1, y1 in pixels of the score map; both corners count as inside.
        estimated_box: (4,) int, likewise: the one that the metric credits.
        iou: Of the estimated box, the best with any true one.
        title: Name of the class.
        note: More about the case, such as the kind of error.
    """

    image_id: str
    image: Image.Image
    score_map: npt.NDArray[np.floating[Any]]
    true_boxes: npt.NDArray[np.integer[Any]]
    estimated_box: npt.NDArray[np.integer[Any]]
    iou: float
    title: str
    note: str = ""

    @property
    def hit(self) -> bool:
        """Whether the IoU is at least 50 %."""
        return self.iou >= IOU / 100

    @property
    def iou_text(self) -> str:
        """The IoU with two decimals; the rest is dropped, so that a miss never reads as 0.50."""
        return f"IoU {math.floor(100 * self.iou + 1e-9) / 100:.2f}"


def shrunk(image: Image.Image, longest: int) -> Image.Image:
    """Return the image as RGB, its longer side at most `longest` pixels."""
    scale = min(1.0, longest / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.convert("RGB").resize(size, Image.Resampling.BILINEAR)


def heated(image: Image.Image, score_map: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    """Return an RGB image under its score map, as (height, width, 3) uint8; the higher the score, the more opaque."""
    small = Image.fromarray(np.asarray(score_map, dtype=np.float32))
    scores = np.asarray(small.resize(image.size, Image.Resampling.BILINEAR)).clip(0, 1)
    opacity = STRONGEST * scores[..., None]
    colours = matplotlib.colormaps[MAP_COLOURS](scores)[..., :3] * 255
    blended = opacity * colours + (1 - opacity) * np.asarray(image, dtype=np.float32)
    return np.asarray(blended.round().astype(np.uint8))


def halo(line_width: float) -> list[AbstractPathEffect]:
    """Return the dark rim of a line, by which it shows on any ground."""
    return [Stroke(linewidth=line_width + 1.3, foreground="#000000", alpha=0.6), Normal()]


def show(axes: Axes, picture: npt.NDArray[np.uint8], case_size: tuple[int, int], square: bool = False) -> None:
    """Show a picture on axes whose units are pixels of the score map, in the picture's own aspect ratio.

    Args:
        axes: Where.
        picture: (height, width, 3) uint8.
        case_size: Height and width of the score map.
        square: Leave room beside or above and below it, so that pictures of any shape take the same place.
    """
    height, width = case_size
    aspect = picture.shape[0] / picture.shape[1]
    axes.imshow(picture, extent=(-0.5, width - 0.5, height - 0.5, -0.5), aspect=aspect * width / height)
    if square:
        across, down = max(1.0, aspect) * width / 2, max(1.0, 1 / aspect) * height / 2
        axes.set_xlim((width - 1) / 2 - across, (width - 1) / 2 + across)
        axes.set_ylim((height - 1) / 2 + down, (height - 1) / 2 - down)
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def add_boxes(axes: Axes, true_boxes: npt.ArrayLike, estimated_box: npt.ArrayLike, scale: float = 1.0) -> None:
    """Draw the true boxes (n, 4) and above them the estimated one (4,), `scale` times as thick as usual."""
    boxes = [(box, TRUE_LINE) for box in np.asarray(true_boxes).reshape(-1, 4)]
    for (x0, y0, x1, y1), look in [*boxes, (np.asarray(estimated_box).reshape(4), ESTIMATE_LINE)]:
        axes.add_patch(
            Rectangle(
                *((x0 - 0.5, y0 - 0.5), x1 - x0 + 1, y1 - y0 + 1),
                fill=False,
                edgecolor=look.colour,
                linewidth=scale * look.width,
                linestyle=look.style,
                path_effects=halo(scale * look.width),
                clip_on=False,  # a box at the border of the picture keeps the outer half of its line
            )
        )


def box_legend(figure: Figure, where: tuple[float, float], anchor: Anchor = "lower center") -> None:
    """Say which line is which box; `where` is in shares of the figure, and `anchor` the legend's corner there."""
    looks = (TRUE_LINE, ESTIMATE_LINE)
    figure.legend(
        [
            Line2D([], [], color=look.colour, lw=look.width, ls=look.style, path_effects=halo(look.width))
            for look in looks
        ],
        ["true box", "estimated box"],
        loc=anchor,
        bbox_to_anchor=where,
        borderaxespad=0.0,
        ncols=2,
        fontsize=8,
        frameon=False,
    )


def fitted(figure: Figure, text: str, size: float, width: float, weight: str = "normal") -> str:
    """Return the text, cut short where it is wider than `width` inches in letters of `size` points."""
    renderer = FigureCanvasAgg(figure).get_renderer()
    measure = figure.text(0, 0, text, size=size, weight=weight, parse_math=False)
    wide = width * figure.dpi
    shown = text
    while measure.get_window_extent(renderer).width > wide and text:
        text = text[:-1]
        shown = f"{text.rstrip()}…"
        measure.set_text(shown)
    measure.remove()
    return shown


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure, as the path's suffix says: .png, .jpg, .svg or .pdf."""
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
