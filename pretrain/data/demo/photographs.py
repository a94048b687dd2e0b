"""The real photographs and textures behind the demo's objects, cut so that training and validation share no pixel."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np
import skimage.data
from PIL import Image

Part = Literal["train", "held-out"]
BILINEAR = Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Photograph:
    """A picture that scikit-image carries in its wheel, with what its documentation says of source and rights.

    Attributes:
        name: Of the function in skimage.data that returns it.
        credit: What it is and whose.
        licence: As documented by scikit-image.
        shows: Classes of the demo that are to be seen on it, without a label; no set with one of them uses it.
    """

    name: str
    credit: str
    licence: str
    shows: tuple[str, ...] = ()


PHOTOGRAPHS = (
    Photograph(
        "astronaut",
        "Eileen Collins, from the NASA Great Images database, https://flic.kr/p/r9qvLn",
        "no known copyright restrictions, released into the public domain",
        ("person",),
    ),
    Photograph("brick", "brick wall, from https://cc0textures.com/view.php?tex=Bricks25", "CC0"),
    Photograph("camera", "cameraman, by Lav Varshney", "CC0", ("person",)),
    Photograph("chelsea", "a cat, by Stefan van der Walt", "CC0", ("cat",)),
    Photograph("coffee", "a cup, by Rachel Michetti, courtesy of Pikolo Espresso Bar", "CC0"),
    Photograph(
        "coins",
        "Greek coins from Pompeii, Brooklyn Museum Collection, "
        "https://www.brooklynmuseum.org/opencollection/archives/image/51611",
        "no known copyright restrictions",
    ),
    Photograph("grass", "grass, from https://www.deviantart.com/linolafett/art/Grass-01-434853879", "CC0"),
    Photograph("gravel", "gravel, from https://cc0textures.com/view.php?tex=Gravel04", "CC0"),
    Photograph(
        "hubble_deep_field",
        "Hubble eXtreme Deep Field, NASA, http://hubblesite.org/newscenter/archive/releases/2012/37/image/a/",
        "may be freely used in the public domain",
    ),
    Photograph(
        "immunohistochemistry",
        "stained tissue, Center for Microscopy And Molecular Imaging (CMMI)",
        "no known copyright restrictions",
    ),
    Photograph(
        "rocket",
        "launch of DSCOVR, SpaceX, https://www.flickr.com/photos/spacexphotos/16511594820",
        "released in the public domain",
    ),
)


def usable(classes: Collection[str]) -> tuple[Photograph, ...]:
    """Return the photographs that show none of a set's classes."""
    return tuple(photograph for photograph in PHOTOGRAPHS if not set(photograph.shows) & set(classes))


@functools.cache
def photograph_part(name: str, part: Part) -> Image.Image:
    """Return the left half of a photograph for training, or the right half for validation and test, as RGB."""
    pixels = np.asarray(getattr(skimage.data, name)())
    middle = pixels.shape[1] // 2
    half = pixels[:, :middle] if part == "train" else pixels[:, middle:]
    return Image.fromarray(np.ascontiguousarray(half)).convert("RGB")


def background(
    photographs: tuple[Photograph, ...], part: Part, size: tuple[int, int], rng: np.random.Generator
) -> Image.Image:
    """Return a random crop of a random photograph: random scale, flip, and gain of each channel.

    Args:
        photographs: To choose from, see `usable`.
        part: Which half of them.
        size: Width and height in pixels.
        rng: Source of the randomness.
    """
    photograph = photograph_part(photographs[rng.integers(len(photographs))].name, part)
    largest = min(photograph.width / size[0], photograph.height / size[1])
    scale = rng.uniform(min(0.6, largest), largest)  # pixels of the photograph for each of the picture
    width, height = size[0] * scale, size[1] * scale
    left, top = rng.uniform(0, photograph.width - width), rng.uniform(0, photograph.height - height)
    box = (left, top, min(left + width, photograph.width), min(top + height, photograph.height))
    crop = photograph.resize(size, BILINEAR, box=box)
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    gain = rng.uniform(0.7, 1.1) * rng.uniform(0.85, 1.15, size=3)
    return Image.fromarray((np.asarray(crop) * gain).clip(0, 255).astype(np.uint8))
