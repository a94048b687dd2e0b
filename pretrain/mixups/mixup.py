"""MixUp (Zhang et al., 2018): a pixel-wise convex combination, one lambda a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.mixups.policy import MixResult, mix_targets, sample_lam, sample_partners


@dataclass(frozen=True)
class MixUp:
    """x = lam * x_i + (1 - lam) * x_j with lam ~ Beta(alpha, alpha)."""

    alpha: float = 1.0

    def __call__(
        self, images: Tensor, targets: Tensor, context: object | None = None, generator: torch.Generator | None = None
    ) -> MixResult:
        """See `MixPolicy`."""
        n, _, height, width = images.shape
        lam = sample_lam(self.alpha, generator)
        index = sample_partners(n, images.device, generator)
        mask = images.new_full((n, 1, 1, 1), lam).expand(n, 1, height, width)
        ratio = images.new_full((n,), lam)
        return MixResult(torch.lerp(images[index], images, lam), ratio, index, mask, mix_targets(targets, index, ratio))
