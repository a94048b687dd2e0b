"""What every mixing method gives back, and the two draws that most of them make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from scipy.special import betaincinv
from torch import Tensor


@dataclass(frozen=True)
class MixResult:
    """A mixed batch.

    Attributes:
        images: (N, 3, H, W), the mixed images.
        lam: (N,) float, the share of image i in the label.
        index: (N,) int64, the partner of each image.
        mask: (N, 1, H, W), the weight of image i at each pixel; None where the mix is not by pixels.
        soft_targets: (N, K) float, rows summing to one.
    """

    images: Tensor
    lam: Tensor
    index: Tensor
    mask: Tensor | None
    soft_targets: Tensor


class MixPolicy(Protocol):
    """A mixing method: pure, out of place, all its randomness from one generator."""

    def __call__(
        self, images: Tensor, targets: Tensor, context: object | None = None, generator: torch.Generator | None = None
    ) -> MixResult:
        """Mix a batch.

        Args:
            images: (N, 3, H, W) float.
            targets: (N, K) float, one-hot or soft labels.
            context: What the method asks for beside the images (saliency, features); None for most.
            generator: On the CPU; the global one where it is None.
        """


def sample_lam(alpha: float, generator: torch.Generator | None = None) -> float:
    """Draw lambda ~ Beta(alpha, alpha) by inverting its distribution function, so that `generator` decides alone."""
    return float(betaincinv(alpha, alpha, torch.rand((), generator=generator, dtype=torch.float64).item()))


def sample_partners(n: int, device: torch.device, generator: torch.Generator | None = None) -> Tensor:
    """Draw a permutation (n,) int64: the partner of each image, on `device`."""
    return torch.randperm(n, generator=generator).to(device, non_blocking=True)


def one_hot(labels: Tensor, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return (N, K) targets of labels (N,) int64, without torch's check of their range, which reads them back."""
    return torch.zeros((len(labels), num_classes), dtype=dtype, device=labels.device).scatter_(1, labels[:, None], 1)


def mix_targets(targets: Tensor, index: Tensor, lam: Tensor) -> Tensor:
    """Return lam * targets[i] + (1 - lam) * targets[index[i]], (N, K)."""
    return lam[:, None] * targets + (1 - lam[:, None]) * targets[index]
