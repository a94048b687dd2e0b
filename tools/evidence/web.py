"""What every page shares: the templates' filters, the style, and pictures as data URIs, so that a page is one file."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError

from pretrain.console import UserError

PICTURE_TYPES = (".png", ".jpg")
UNTOUCHED_BYTES = 60_000  # a plot of lines and letters is small as it is, and sharper than after JPEG
# On a dark page the picture itself, asked by the same media query as the page, turns matplotlib's black light: lines
# name their black, letters name no colour.
DARK = (
    "<style>@media (prefers-color-scheme: dark) {"
    " svg { fill: #dfe3e8 }"
    ' [style*="stroke: #000000"] { stroke: #dfe3e8 !important }'
    " }</style>"
)


def templates(*folders: Path) -> Environment:
    """Return the templates of the folders and of this one, with the filters `number`, `signed` and `duration`."""
    loader = FileSystemLoader([*folders, Path(__file__).parent])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"number": number, "signed": signed, "duration": duration}
    return environment


def number(value: float | None, digits: int = 1) -> str:
    """Return the value with so many digits behind the point; "-" for what is not there."""
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float, digits: int = 2) -> str:
    """Return a difference with its sign, the true minus: "+0.31", "−1.20"."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def duration(seconds: float | None) -> str:
    """Return seconds as a person says them: "95 s", "12 min 05 s", "3 h 20 min"; "-" for what is not there."""
    if seconds is None or math.isnan(seconds):
        return "-"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def save_figure(figure: Figure, path: Path | io.BytesIO, kind: str) -> None:
    """Write a figure as SVG or PNG, the same bytes for the same figure."""
    with rc_context({"svg.hashsalt": "figure"}):
        figure.savefig(path, format=kind, dpi=130, metadata={"Date": None} if kind == "svg" else None)


def figure_kind(figure: Figure) -> str:
    """Return "png" for a figure that holds images, else "svg"."""
    return "png" if any(axes.images for axes in figure.axes) else "svg"


def embed_figure(figure: Figure) -> str:
    """Return a figure as a data URI: SVG without a background that follows the page's light or dark; images as PNG."""
    kind, file = figure_kind(figure), io.BytesIO()
    if kind == "png":
        save_figure(figure, file, kind)
        return data_uri("image/png", file.getvalue())
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    save_figure(figure, file, kind)
    svg = re.sub(r"(<svg [^>]*>)", lambda found: found[1] + DARK, file.getvalue().decode(), count=1)
    return data_uri("image/svg+xml", svg.encode())


def embed_picture(path: Path, width: int) -> str:
    """Return a picture as a data URI, at most so many pixels wide: the page is to be sent by mail.

    A small PNG is taken as it is; what is larger becomes a JPEG.

    Raises:
        UserError: The file is no picture.
    """
    try:
        with Image.open(path) as picture, io.BytesIO() as file:
            if picture.format == "PNG" and picture.width <= width and path.stat().st_size <= UNTOUCHED_BYTES:
                picture.load()
                return data_uri("image/png", path.read_bytes())
            small = picture.convert("RGB")
            small.thumbnail((width, small.height))
            small.save(file, format="JPEG", quality=85)
            return data_uri("image/jpeg", file.getvalue())
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise UserError(f"{path}: not a whole picture ({error}); remove it, or draw it again") from error


def pictures_below(folder: Path) -> list[Path]:
    """Return the pictures in a folder and below it, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.suffix in PICTURE_TYPES)


def data_uri(kind: str, content: bytes) -> str:
    """Return the content as the address of an image."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def listed(words: Iterable[object]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    *first, last = [str(word) for word in words] or [""]
    return f"{', '.join(first)} and {last}" if first else last
