"""What every step with a Mix Block does: draw the pairs, mix, differentiate."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pretrain.mixups.policy import sample_lam, sample_partners

Backward = Callable[[Tensor], object]
Draws = tuple[float | None, float | None, Tensor | None, Tensor | None]


def draw_pairs(
    images: Tensor, alpha: float, given: Draws, generator: torch.Generator | None
) -> tuple[float, float, Tensor, Tensor]:
    """Return lam_q, lam_k ~ Beta(alpha, alpha) and the permutations index_q, index_k; what is given is kept."""
    lam_q, lam_k, index_q, index_k = given
    lam_q = sample_lam(alpha, generator) if lam_q is None else lam_q
    lam_k = sample_lam(alpha, generator) if lam_k is None else lam_k
    index_q = sample_partners(len(images), images.device, generator) if index_q is None else index_q
    index_k = sample_partners(len(images), images.device, generator) if index_k is None else index_k
    return lam_q, lam_k, index_q, index_k


def halves(images: Tensor, labels: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the first half of a batch and the second, each as (images, labels); ValueError for a batch of one."""
    if len(images) < 2:
        raise ValueError("a batch of one image cannot be split into a clean and a mixed half: make it larger")
    middle = len(images) // 2
    return (images[:middle], labels[:middle]), (images[middle:], labels[middle:])


def mix(images: Tensor, index: Tensor, mask: Tensor) -> Tensor:
    """Eq. 4: mask * x_i + (1 - mask) * x_j, (N, 3, H, W), from masks (N, 1, H, W)."""
    mask = mask.to(images.dtype)
    return mask * images + (1 - mask) * images[index]  # rounds as the authors' code does more often than torch.lerp


def differentiate(backward: Backward | None, *terms: Tensor) -> tuple[Tensor, ...]:
    """Hand the sum of a branch's terms to `backward` and return them without a graph; without it, as they are."""
    if backward is None:
        return terms
    backward(torch.stack(terms).sum())
    return tuple(term.detach() for term in terms)


@torch.no_grad()
def share_error(mask: Tensor, lam: float) -> Tensor:
    """Return the mean of |lambda - mean of the mask| over the batch, a scalar: how well masks keep to lambda."""
    return (lam - mask.mean(dim=(1, 2, 3))).abs().mean()
