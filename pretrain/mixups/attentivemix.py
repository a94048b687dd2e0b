"""AttentiveMix (Attentive CutMix, Walawalkar et al., 2020): the cells a frozen network attends to most, pasted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.mixups.policy import (
    Draw,
    MixContext,
    MixPolicy,
    MixResult,
    paste_cells,
    require_positive,
    sample_partners,
)


@dataclass(frozen=True)
class AttentiveDraw(Draw):
    """What is drawn, and room for what is known already.

    Attributes:
        ranks: (N, grid * grid) int64 of `AttentiveMix.rank`, where the caller has kept those of its images; None: the
            frozen network is asked.
    """

    ranks: Tensor | None = None


@dataclass(frozen=True)
class AttentiveMix(MixPolicy):
    """The most attended cells of image i pasted on its partner, so lam is the share of these cells: 6 / 49.

    Image i is the one whose cells are pasted, as in xden2331/attentive_cutmix and in OpenMixup. Attention is the mean
    over the channels of the last feature map, as in OpenMixup; attentive_cutmix reads the last channel alone. Nothing
    but the partners is random.

    Attributes:
        grid: Cells along each side of the image; 7 is the side of a ResNet's last map at 224 pixels.
        cells: How many are pasted; 6 in the paper.
        teacher_size: Side to which images are resized for the frozen network, pixels.
    """

    name: ClassVar[str] = "attentivemix"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    grid: int = 7
    cells: int = 6
    teacher_size: int = 224

    def __post_init__(self) -> None:
        """Check the settings; a ValueError names the wrong one."""
        require_positive(self.name, grid=self.grid, teacher_size=self.teacher_size)
        if not 0 <= self.cells <= self.grid**2:
            raise ValueError(f"{self.name}: cells has to be in 0 .. {self.grid**2} (grid squared), not {self.cells}")

    def sample(
        self,
        n: int,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
        lam: float | None = None,
        index: Tensor | None = None,
    ) -> AttentiveDraw:
        """Draw partners; a `lam` that is given asks for round(lam * grid^2) cells. See `MixPolicy.sample`."""
        return AttentiveDraw(
            self.cells / self.grid**2 if lam is None else lam,
            sample_partners(n, generator=generator) if index is None else index,
        )

    def apply(
        self, images: Tensor, targets: Tensor, draw: AttentiveDraw, context: MixContext | None = None
    ) -> MixResult:
        """Paste; the frozen network is not asked where the draw holds the ranks. See `MixPolicy`."""
        ranks = self.rank(images, context) if draw.ranks is None else draw.ranks.to(images.device, non_blocking=True)
        return paste_cells(images, targets, draw.index, ranks, draw.lam)

    @torch.no_grad()
    def rank(self, images: Tensor, context: MixContext | None) -> Tensor:
        """Return the place of each cell in the order of attention, 0 the most attended; of equal cells the first.

        Ranks belong to the image as the network sees it: whoever keeps them has to keep crop and flip, too.

        Args:
            images: (N, 3, H, W) float, normalised.
            context: Its `features` may return a map of any side; it is brought to grid x grid by averaging.

        Returns:
            (N, grid * grid) int64, cells row by row.

        Raises:
            ValueError: The context has no features.
        """
        if context is None or context.features is None:
            raise ValueError(f"{self.name}: the context has no features, and the draw holds no ranks")
        side = (self.teacher_size, self.teacher_size)
        if images.shape[-2:] != side:
            images = F.interpolate(images, size=side, mode="bilinear", align_corners=False)
        attention = context.features(images).float().mean(dim=1, keepdim=True)
        attention = F.adaptive_avg_pool2d(attention, self.grid).flatten(1)
        return attention.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
