"""Random grids: the cells of a coarse grid dealt out between two images, Table 9's baseline of the Mix Block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pretrain.mixups.policy import Draw, MixContext, MixResult, PairPolicy, paste_cells


@dataclass(frozen=True)
class GridDraw(Draw):
    """In which order cells go to image i: ranks (N, cells) int64."""

    ranks: Tensor


@dataclass(frozen=True)
class RandomGrids(PairPolicy):
    """What AutoMix is without its cross-attention: masks of a feature map's resolution whose cells are drawn.

    The paper names the row and leaves the rest open. Here round(lam * cells) cells, drawn for each image, show image i;
    lam becomes the share of its pixels.

    Attributes:
        alpha: lambda ~ Beta(alpha, alpha).
        grid: Cells along each side of the image; a feature map's side, for the comparison with AutoMix.
    """

    name: ClassVar[str] = "random_grids"
    alpha: float = 2.0
    grid: int = 8

    def draw_more(self, pairs: Draw, n: int, size: tuple[int, int], generator: torch.Generator | None) -> GridDraw:
        """Draw the order of the cells; see `PairPolicy`."""
        ranks = torch.rand((n, self.grid**2), generator=generator).argsort(dim=1).argsort(dim=1)
        return GridDraw(pairs.lam, pairs.index, ranks)

    def apply(self, images: Tensor, targets: Tensor, draw: GridDraw, context: MixContext | None = None) -> MixResult:
        """See `MixPolicy`."""
        return paste_cells(images, targets, draw.index, draw.ranks, draw.lam)
