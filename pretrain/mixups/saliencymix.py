"""SaliencyMix (Uddin et al., 2021): CutMix whose box is centred on the most salient pixel of a source image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from pretrain.mixups.fine_grained import fine_grained_saliency
from pretrain.mixups.policy import Draw, MixContext, MixResult, PairPolicy, paste, require_positive


@dataclass(frozen=True)
class SaliencyMix(PairPolicy):
    """A box of sides sqrt(1 - lam) of the image's, around the peak of the source's saliency, clipped; lam by its area.

    The source is the image that the box is cut from. As in the authors' code, one box serves the batch: that of the
    first image's partner. Their code hands OpenCV the normalised floats, which it reads as bytes: that map has nothing
    to do with the image. Here the saliency is that of the pixels in 0 .. 255, and sides keep the pixel that their
    halving loses.

    Attributes:
        alpha: lambda ~ Beta(alpha, alpha).
        mean, std: What the images (R, G, B) were normalised by, in [0, 1].
    """

    name: ClassVar[str] = "saliencymix"
    mean: tuple[float, float, float] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, float, float] = IMAGENET_DEFAULT_STD

    def __post_init__(self) -> None:
        """Check the settings; a ValueError names the wrong one."""
        super().__post_init__()
        for key, value in (("mean", self.mean), ("std", self.std)):
            if len(value) != 3:
                raise ValueError(f"{self.name}: {key} has to be three numbers, not {value}")
        require_positive(self.name, std=min(self.std))

    def apply(self, images: Tensor, targets: Tensor, draw: Draw, context: MixContext | None = None) -> MixResult:
        """See `MixPolicy`. The peak stays on the images' device: the host does not wait for it."""
        height, width = images.shape[-2:]
        peak = fine_grained_saliency(self._pixels(images[int(draw.index[0])])).flatten().argmax()
        side = (1 - draw.lam) ** 0.5
        rows = _span(peak // width, round(side * height), height)
        columns = _span(peak % width, round(side * width), width)
        return paste(images, targets, draw.index, ~(rows[:, None] & columns)[None, None])

    def _pixels(self, image: Tensor) -> Tensor:
        """Undo the normalisation of an image (3, H, W): float32 in 0 .. 255."""
        mean, std = (
            torch.tensor(value, dtype=torch.float32).view(3, 1, 1).to(image.device, non_blocking=True)
            for value in (self.mean, self.std)
        )
        return ((image.to(torch.float32) * std + mean) * 255).clamp(0, 255)


def _span(centre: Tensor, side: int, length: int) -> Tensor:
    """Return which pixels (length,) are in a span of `side` pixels around `centre`, an int64 scalar."""
    offset = torch.arange(length, device=centre.device) - centre + side // 2
    return (offset >= 0) & (offset < side)
