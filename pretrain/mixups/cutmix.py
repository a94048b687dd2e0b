"""CutMix (Yun et al., 2019): a box of the partner pasted in, the label by the area that remains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pretrain.mixups.policy import Draw, MixContext, MixResult, PairPolicy, paste


@dataclass(frozen=True)
class BoxDraw(Draw):
    """Where the box is: its centre (y, x), each in [0, 1) of the image's side."""

    centre: tuple[float, float]


@dataclass(frozen=True)
class CutMix(PairPolicy):
    """A box of sides sqrt(1 - lam) of the image's, centred uniformly and clipped; lam becomes one minus its area."""

    name: ClassVar[str] = "cutmix"

    def draw_more(self, pairs: Draw, n: int, size: tuple[int, int], generator: torch.Generator | None) -> BoxDraw:
        """Draw the box's centre; see `PairPolicy`."""
        y, x = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        return BoxDraw(pairs.lam, pairs.index, (y, x))

    def apply(self, images: Tensor, targets: Tensor, draw: BoxDraw, context: MixContext | None = None) -> MixResult:
        """See `MixPolicy`."""
        size = (images.shape[-2], images.shape[-1])
        return paste(images, targets, draw.index, outside_box(size, box(size, draw.lam, draw.centre)))


def box(size: tuple[int, int], lam: float, centre: tuple[float, float]) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right (exclusive) of the box, clipped to the image.

    Args:
        size: (H, W).
        lam: One minus the share of the box before it is clipped.
        centre: (y, x), in [0, 1] of the image's sides.
    """
    side = (1 - lam) ** 0.5
    top, bottom = _span(centre[0], side, size[0])
    left, right = _span(centre[1], side, size[1])
    return top, left, bottom, right


def _span(centre: float, side: float, length: int) -> tuple[int, int]:
    """Return the first pixel and one past the last of a span of `side` * length around `centre` * length, clipped."""
    first = round(centre * length - side * length / 2)
    return max(first, 0), min(first + round(side * length), length)


def outside_box(size: tuple[int, int], corners: tuple[int, int, int, int]) -> Tensor:
    """Return a mask (1, 1, H, W) bool, false inside the box."""
    top, left, bottom, right = corners
    mask = torch.ones((1, 1, *size), dtype=torch.bool)
    mask[..., top:bottom, left:right] = False
    return mask
