"""Random grids: the cells of a coarse grid dealt out between two images, Table 9's baseline of the Mix Block."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.mixups.policy import MixResult, mix_targets, sample_lam, sample_partners


@dataclass(frozen=True)
class RandomGrids:
    """What AutoMix is without its cross-attention: masks of a feature map's resolution whose cells are drawn.

    The paper names the row and leaves the rest open. Here round(lam * cells) cells, drawn for each image, show image i;
    lam becomes the share of its pixels.

    Attributes:
        alpha: lambda ~ Beta(alpha, alpha).
        grid: Cells along each side of the image; a feature map's side, for the comparison with AutoMix.
    """

    alpha: float = 2.0
    grid: int = 8

    def __call__(
        self, images: Tensor, targets: Tensor, context: object | None = None, generator: torch.Generator | None = None
    ) -> MixResult:
        """See `MixPolicy`."""
        n, cells = len(images), self.grid**2
        shown = round(sample_lam(self.alpha, generator) * cells)
        index = sample_partners(n, images.device, generator)
        ranks = torch.rand((n, cells), generator=generator).argsort(dim=1).argsort(dim=1)
        cells_i = (ranks < shown).to(images.dtype).view(n, 1, self.grid, self.grid)
        mask = F.interpolate(cells_i, size=images.shape[-2:], mode="nearest").to(images.device, non_blocking=True)
        ratio = mask.mean(dim=(1, 2, 3))
        mixed = torch.where(mask.bool(), images, images[index])
        return MixResult(mixed, ratio, index, mask, mix_targets(targets, index, ratio))
