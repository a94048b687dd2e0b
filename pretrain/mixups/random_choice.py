"""MixUp or CutMix, drawn for each batch: the rows "DeiT" and "RSB" of Tables 3 and 4 (Touvron, Wightman)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pretrain.mixups.cutmix import CutMix
from pretrain.mixups.mixup import MixUp
from pretrain.mixups.policy import Draw, MixContext, MixPolicy, MixResult, require_positive


@dataclass(frozen=True)
class Chosen(Draw):
    """A method and what it drew."""

    policy: MixPolicy
    draw: Draw


@dataclass(frozen=True)
class RandomChoice(MixPolicy):
    """CutMix with probability `switch_prob`, else MixUp; timm's `Mixup(mixup_alpha, cutmix_alpha, switch_prob=...)`.

    Attributes:
        mixup_alpha, cutmix_alpha: Of the Beta distribution of each (0.8 and 1.0 in DeiT, 0.1 and 1.0 in RSB A2 and A3).
        switch_prob: Of CutMix.
    """

    name: ClassVar[str] = "random_choice"
    mixup_alpha: float = 0.8
    cutmix_alpha: float = 1.0
    switch_prob: float = 0.5

    def __post_init__(self) -> None:
        """Check the settings; a ValueError names the wrong one."""
        require_positive(self.name, mixup_alpha=self.mixup_alpha, cutmix_alpha=self.cutmix_alpha)
        if not 0 <= self.switch_prob <= 1:
            raise ValueError(f"{self.name}: switch_prob has to be in [0, 1], not {self.switch_prob}")

    def sample(
        self,
        n: int,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
        lam: float | None = None,
        index: Tensor | None = None,
    ) -> Chosen:
        """Draw the method, then what it draws; see `MixPolicy.sample`."""
        cut = torch.rand((), generator=generator).item() < self.switch_prob
        policy = CutMix(self.cutmix_alpha) if cut else MixUp(self.mixup_alpha)
        draw = policy.sample(n, size, generator, lam, index)
        return Chosen(draw.lam, draw.index, policy, draw)

    def apply(self, images: Tensor, targets: Tensor, draw: Chosen, context: MixContext | None = None) -> MixResult:
        """See `MixPolicy`."""
        return draw.policy.apply(images, targets, draw.draw, context)
