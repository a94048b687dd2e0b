"""ResizeMix (Qin et al., 2020): the whole partner, made smaller, pasted in; the label by the area that remains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.mixups.cutmix import outside_box
from pretrain.mixups.policy import Draw, MixContext, MixResult, PairPolicy, mix_targets, sample_lam


@dataclass(frozen=True)
class PatchDraw(Draw):
    """Where the patch is: its corner (y, x), each in [0, 1) of the room that the patch leaves free."""

    corner: tuple[float, float]


@dataclass(frozen=True)
class ResizeMix(PairPolicy):
    """The partner resized to tau of its sides, tau ~ U(scale_min, scale_max), anywhere inside; lam = 1 - area.

    The paper names the resizing and not its filter: here it is bilinear and antialiased, as torchvision resizes.

    Attributes:
        alpha: 1 is the uniform distribution. Others are OpenMixup's, whose alpha the AutoMix paper gives (A.1):
            tau ~ Beta(alpha, alpha), and uniform where that leaves the bounds.
        scale_min, scale_max: Bounds of tau; ResizeMix's paper calls them alpha and beta.
    """

    name: ClassVar[str] = "resizemix"
    scale_min: float = 0.1
    scale_max: float = 0.8

    def __post_init__(self) -> None:
        """Check the settings; a ValueError names the wrong one."""
        super().__post_init__()
        if not 0 < self.scale_min <= self.scale_max <= 1:
            raise ValueError(
                f"{self.name}: 0 < scale_min <= scale_max <= 1 has to hold, not scale_min {self.scale_min} and "
                f"scale_max {self.scale_max}"
            )

    def draw_lam(self, generator: torch.Generator | None) -> float:
        """Draw the scale; lambda is the share that a patch of tau of the sides leaves."""
        tau = sample_lam(self.alpha, generator)
        if not self.scale_min <= tau <= self.scale_max:
            uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
            tau = self.scale_min + (self.scale_max - self.scale_min) * uniform
        return 1 - tau**2

    def draw_more(self, pairs: Draw, n: int, size: tuple[int, int], generator: torch.Generator | None) -> PatchDraw:
        """Draw the patch's corner; see `PairPolicy`."""
        y, x = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        return PatchDraw(pairs.lam, pairs.index, (y, x))

    def apply(self, images: Tensor, targets: Tensor, draw: PatchDraw, context: MixContext | None = None) -> MixResult:
        """See `MixPolicy`."""
        index = draw.index.to(images.device, non_blocking=True)
        top, left, bottom, right = corners = patch_box((images.shape[-2], images.shape[-1]), draw.lam, draw.corner)
        mixed = images.clone()
        if bottom > top and right > left:
            # In float32, because not every device resizes bfloat16.
            source = images[index].to(torch.float32)
            mixed[..., top:bottom, left:right] = F.interpolate(
                source, (bottom - top, right - left), mode="bilinear", antialias=True
            )
        mask = outside_box((images.shape[-2], images.shape[-1]), corners).to(torch.float32)
        mask = mask.to(images.device, non_blocking=True).expand(len(images), -1, -1, -1)
        lam = mask.mean(dim=(1, 2, 3))
        return MixResult(mixed, lam, index, mask, mix_targets(targets, index, lam))


def patch_box(size: tuple[int, int], lam: float, corner: tuple[float, float]) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right (exclusive) of a patch of sides sqrt(1 - lam) of the image's, inside of it.

    Args:
        size: (H, W).
        lam: One minus the patch's share of the image, before its sides are rounded.
        corner: (y, x), in [0, 1) of the room that the patch leaves free.
    """
    side = (1 - lam) ** 0.5
    height, width = round(side * size[0]), round(side * size[1])
    top = int(corner[0] * (size[0] - height + 1))
    left = int(corner[1] * (size[1] - width + 1))
    return top, left, top + height, left + width
