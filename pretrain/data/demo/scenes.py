"""Composing a scene: drawings on a photograph, with boxes and masks that are exact because alpha is known.

Conventions:
    A pixel belongs to a drawing where its alpha is at least ALPHA_FLOOR; fainter pixels are made wholly transparent,
    so the drawing leaves no trace outside its mask. It is visible unless a later drawing has a pixel there too.
    The box is the extent of the VISIBLE pixels inside the picture, as in VOC's guidelines.
    Boxes here are x0, y0, x1, y1 in pixels from 0, the far corner exclusive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from pretrain.data.demo.drawings import DISTRACTORS, RENDER_SIDES, render

ALPHA_FLOOR = 32  # of 255
TRIES = 30
OBJECT_HIDES = 0.15  # of another object's pixels; small things in front may hide more, down to `min_visible`
TRUNCATED_ABOVE = 0.15  # of the object's pixels outside the box: VOC's guideline says 15-20 %
OCCLUDED_ABOVE = 0.05  # of its pixels inside the picture hidden: VOC's guideline
DIFFICULT_BELOW = 0.6  # of its pixels visible

Box = tuple[int, int, int, int]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SceneStyle:
    """How the scenes of a set look.

    Attributes:
        sizes: Widths and heights in pixels, one is drawn for each scene.
        side: Smallest and largest longer side of an object, as a fraction of the picture's shorter side.
        distractors: Fewest and most small drawings behind the objects.
        occlusion: Probability that something small is put in front of an object.
        truncation: Probability that an object may reach over the picture's edge, by up to 40 % of its extent.
        min_visible: Smallest fraction of an object's pixels that stays visible.
        rotation: Largest angle to either side, in degrees.
        tint: Largest change of a channel's gain to either side.
    """

    sizes: tuple[tuple[int, int], ...]
    side: tuple[float, float] = (0.45, 0.85)
    distractors: tuple[int, int] = (0, 3)
    occlusion: float = 0.25
    truncation: float = 0.15
    min_visible: float = 0.6
    rotation: float = 25.0
    tint: float = 0.2


@dataclass(frozen=True)
class Layer:
    """A transformed drawing and where its upper left corner goes; `label` is None for a distractor."""

    drawing: Image.Image
    x: int
    y: int
    label: str | None

    def pixels(self) -> int:
        """Return how many pixels belong to the drawing, inside the picture and outside."""
        return int(np.count_nonzero(np.asarray(self.drawing)[..., 3]))


@dataclass(frozen=True)
class SceneObject:
    """One labelled object of a scene.

    Attributes:
        label: Its class.
        box: Extent of the visible pixels: x0, y0, x1, y1 from 0, far corner exclusive.
        mask: (H, W) bool, the visible pixels.
        visible: Fraction of the object's pixels that can be seen.
        truncated: More than 15 % of its pixels lie outside the box.
        occluded: More than 5 % of its pixels inside the picture are hidden.
    """

    label: str
    box: Box
    mask: Mask
    visible: float
    truncated: bool
    occluded: bool

    @property
    def difficult(self) -> bool:
        """Whether VOC's evaluation should pass it over: less than 60 % of it can be seen."""
        return self.visible < DIFFICULT_BELOW


@dataclass
class Scene:
    """A picture and what is on it; layers are in painting order."""

    image: Image.Image
    objects: list[SceneObject]
    layers: list[Layer] = field(repr=False)


def extent(mask: Mask) -> Box:
    """Return the smallest box that holds all true pixels of an (H, W) mask, which needs at least one."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def transform_drawing(drawing: Image.Image, side: int, style: SceneStyle, rng: np.random.Generator) -> Image.Image:
    """Rotate, flip, scale and tint an RGBA drawing, and cut it to its pixels.

    Args:
        drawing: As `render` returns it.
        side: The longer side of the result in pixels (one less where the outermost pixels are too faint to count).
        style: Gives the ranges of angle and tint.
        rng: Source of the randomness.
    """
    angle = rng.uniform(-style.rotation, style.rotation)
    if rng.random() < 0.5:
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned = drawing.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    turned = turned.crop(extent(np.asarray(turned)[..., 3] >= ALPHA_FLOOR))
    scale = side / max(turned.size)
    size = (max(1, round(turned.width * scale)), max(1, round(turned.height * scale)))
    pixels = np.asarray(turned.resize(size, Image.Resampling.BILINEAR)).astype(np.float32)
    gain = rng.uniform(1 - style.tint, 1 + style.tint / 2, size=3)
    pixels[..., :3] = (pixels[..., :3] * gain).clip(0, 255)
    belongs = pixels[..., 3] >= ALPHA_FLOOR
    pixels[~belongs] = 0
    return Image.fromarray(pixels.astype(np.uint8)).crop(extent(belongs))


class Composer:
    """Places layers on a picture of given size and knows, pixel by pixel, which of them is on top."""

    def __init__(self, size: tuple[int, int], style: SceneStyle, rng: np.random.Generator) -> None:
        self.width, self.height = size
        self.style = style
        self.rng = rng
        self.layers: list[Layer] = []
        self.pixels: list[int] = []  # of each layer, see Layer.pixels
        self.on_top = np.full((self.height, self.width), -1, dtype=np.int16)

    def stamp(self, layer: Layer) -> Mask:
        """Return the (H, W) mask of a layer's pixels inside the picture."""
        mask = np.zeros((self.height, self.width), dtype=bool)
        alpha = np.asarray(layer.drawing)[..., 3] > 0
        x0, y0 = max(layer.x, 0), max(layer.y, 0)
        x1, y1 = min(layer.x + alpha.shape[1], self.width), min(layer.y + alpha.shape[0], self.height)
        if x0 < x1 and y0 < y1:
            mask[y0:y1, x0:x1] = alpha[y0 - layer.y : y1 - layer.y, x0 - layer.x : x1 - layer.x]
        return mask

    def add(self, layer: Layer, hides: float = 1.0) -> bool:
        """Put a layer on top if it may go there, and say whether it does.

        It may not where some object, itself included, would show less than `min_visible` of its pixels, nor where more
        than the fraction `hides` of another object's pixels would newly be hidden.
        """
        on_top = np.where(self.stamp(layer), np.int16(len(self.layers)), self.on_top)
        layers, pixels = [*self.layers, layer], [*self.pixels, layer.pixels()]
        before = np.bincount(self.on_top.ravel() + 1, minlength=len(layers) + 1)[1:]
        after = np.bincount(on_top.ravel() + 1, minlength=len(layers) + 1)[1:]
        for there, seen_before, seen, whole in zip(layers, before, after, pixels):
            if there.label is not None and (
                seen < self.style.min_visible * whole or seen_before - seen > hides * whole
            ):
                return False
        self.layers, self.pixels, self.on_top = layers, pixels, on_top
        return True

    def draw(self, code: str, sides: tuple[float, float]) -> Image.Image:
        """Return a drawing transformed to a random size between `sides`, fractions of the picture's shorter side."""
        side = round(self.rng.uniform(*sides) * min(self.width, self.height))
        enough = next((rendered for rendered in RENDER_SIDES if rendered >= 1.3 * side), RENDER_SIDES[-1])
        return transform_drawing(render(code, enough), max(side, 4), self.style, self.rng)

    def place_object(self, label: str, code: str, must: bool) -> None:
        """Put an object at a random place; after TRIES misfits leave it out, or raise ValueError if it `must` be."""
        for attempt in range(TRIES):
            drawing = self.draw(code, self.style.side)
            over = self.rng.random() < self.style.truncation
            reach = 0.4 if over and attempt < TRIES // 2 else 0.0
            x = self._coordinate(drawing.width, self.width, reach)
            y = self._coordinate(drawing.height, self.height, reach)
            if self.add(Layer(drawing, x, y, label), OBJECT_HIDES):
                return
        if must:
            raise ValueError(f"'{label}' of {self.style.side} of the side does not fit {self.width}x{self.height}")

    def place_distractor(self) -> None:
        """Put a small drawing of no class anywhere on the picture."""
        drawing = self.draw(self._distractor(), (0.10, 0.22))
        x, y = self._coordinate(drawing.width, self.width, 0.5), self._coordinate(drawing.height, self.height, 0.5)
        self.add(Layer(drawing, x, y, None))

    def occlude(self, target: Layer) -> None:
        """Put a drawing of no class over a part of an object, a third to a half as large as that."""
        for _ in range(TRIES // 3):
            side = max(target.drawing.size) / min(self.width, self.height)
            drawing = self.draw(self._distractor(), (side / 3, side / 2))
            x = target.x + round(self.rng.uniform(0, 1) * target.drawing.width - drawing.width / 2)
            y = target.y + round(self.rng.uniform(0, 1) * target.drawing.height - drawing.height / 2)
            if self.add(Layer(drawing, x, y, None)):
                return

    def _distractor(self) -> str:
        return DISTRACTORS[self.rng.integers(len(DISTRACTORS))]

    def _coordinate(self, length: int, room: int, reach: float) -> int:
        """Return a random start so that at most `reach` of `length` lies outside `room` at either end."""
        low, high = -reach * length, room - (1 - reach) * length
        return round(self.rng.uniform(low, max(high, low)))

    def objects(self) -> list[SceneObject]:
        """Return the labelled objects in painting order, with what is visible of each now."""
        found = []
        for index, (layer, whole) in enumerate(zip(self.layers, self.pixels)):
            if layer.label is None:
                continue
            mask, inside = self.on_top == index, self.stamp(layer)
            box = extent(mask)
            in_box = int(np.count_nonzero(inside[box[1] : box[3], box[0] : box[2]]))
            seen = int(np.count_nonzero(mask))
            hidden = 1 - seen / int(np.count_nonzero(inside))
            found.append(
                SceneObject(
                    layer.label, box, mask, seen / whole, 1 - in_box / whole > TRUNCATED_ABOVE, hidden > OCCLUDED_ABOVE
                )
            )
        return found


def compose(
    backdrop: Image.Image, subjects: Sequence[tuple[str, str]], style: SceneStyle, rng: np.random.Generator
) -> Scene:
    """Compose a scene on a photograph.

    Args:
        backdrop: RGB; its size is the picture's.
        subjects: Label and code point of each object to be placed. The first is there for certain; another is left out
            where it would hide too much of those before it.
        style: How the scene is to look.
        rng: Source of all randomness.

    Raises:
        ValueError: The first object cannot be placed: the style's numbers contradict each other.
    """
    composer = Composer(backdrop.size, style, rng)
    for _ in range(rng.integers(style.distractors[0], style.distractors[1] + 1)):
        composer.place_distractor()
    for number, (label, code) in enumerate(subjects):
        composer.place_object(label, code, must=number == 0)
    for layer in [layer for layer in composer.layers if layer.label is not None]:
        if rng.random() < style.occlusion:
            composer.occlude(layer)
    picture = backdrop.copy()
    for layer in composer.layers:
        picture.paste(layer.drawing, (layer.x, layer.y), layer.drawing)
    return Scene(picture, composer.objects(), composer.layers)
