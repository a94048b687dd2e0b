"""MixUp (Zhang et al., 2018): a pixel-wise convex combination, one lambda a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pretrain.mixups.policy import Draw, MixContext, MixResult, PairPolicy, mix_targets


@dataclass(frozen=True)
class MixUp(PairPolicy):
    """x = lam * x_i + (1 - lam) * x_j with lam ~ Beta(alpha, alpha)."""

    name: ClassVar[str] = "mixup"

    def apply(self, images: Tensor, targets: Tensor, draw: Draw, context: MixContext | None = None) -> MixResult:
        """See `MixPolicy`."""
        index = draw.index.to(images.device, non_blocking=True)
        lam = images.new_full((len(images),), draw.lam, dtype=torch.float32)
        mask = lam[:, None, None, None].expand(-1, 1, *images.shape[-2:])
        mixed = torch.lerp(images[index], images, draw.lam)
        return MixResult(mixed, lam, index, mask, mix_targets(targets, index, lam))
