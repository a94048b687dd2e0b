"""CutMix (Yun et al., 2019): a box of the partner pasted in, the label by the area that remains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pretrain.mixups.policy import MixResult, mix_targets, sample_lam, sample_partners


@dataclass(frozen=True)
class CutMix:
    """A box of sides sqrt(1 - lam) of the image's, centred uniformly and clipped; lam becomes one minus its area."""

    alpha: float = 1.0

    def __call__(
        self, images: Tensor, targets: Tensor, context: object | None = None, generator: torch.Generator | None = None
    ) -> MixResult:
        """See `MixPolicy`."""
        n, _, height, width = images.shape
        side = (1 - sample_lam(self.alpha, generator)) ** 0.5
        centre_y, centre_x = torch.rand(2, generator=generator).tolist()
        index = sample_partners(n, images.device, generator)
        top, bottom = _span(centre_y, side, height)
        left, right = _span(centre_x, side, width)
        mask = images.new_ones((1, 1, height, width))
        mask[..., top:bottom, left:right] = 0
        ratio = images.new_full((n,), 1 - (bottom - top) * (right - left) / (height * width))
        mixed = torch.where(mask.bool(), images, images[index])
        return MixResult(mixed, ratio, index, mask.expand(n, 1, height, width), mix_targets(targets, index, ratio))


def _span(centre: float, side: float, length: int) -> tuple[int, int]:
    """Return the first pixel and one past the last of a span of `side` * length around `centre` * length, clipped."""
    first = round(centre * length - side * length / 2)
    return max(first, 0), min(first + round(side * length), length)
