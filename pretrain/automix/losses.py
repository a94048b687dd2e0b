"""The losses of AutoMix: Eq. 2 for both branches, Eq. 7 for the mask, Eq. 8 for their sum."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Losses(NamedTuple):
    """The terms of Eq. 8, each a scalar tensor; `mask_ratio` carries its weight gamma already."""

    ce: Tensor
    mixed_ce: Tensor
    generation_ce: Tensor
    mask_ratio: Tensor
    total: Tensor


def mixed_cross_entropy(logits: Tensor, labels: Tensor, index: Tensor, lam: float) -> Tensor:
    """Eq. 2: lam * CE(logits, y_i) + (1 - lam) * CE(logits, y_j), averaged over the batch.

    Args:
        logits: (N, K).
        labels: (N,) int64.
        index: (N,) int64, the partner of each image.
        lam: The share of image i.
    """
    return lam * F.cross_entropy(logits, labels) + (1 - lam) * F.cross_entropy(logits, labels[index])


def mask_ratio_loss(mask: Tensor, lam: float, margin: float = 0.1) -> Tensor:
    """Eq. 7 without its weight: max(|lam - mean of the mask| - margin, 0) for each sample, then the batch mean.

    Args:
        mask: (N, 1, H, W), the weight of image i.
        lam: The share of image i that was asked for.
        margin: How far the mean may be off at no cost (epsilon in the paper).
    """
    return torch.clamp((lam - mask.mean(dim=(1, 2, 3))).abs() - margin, min=0).mean()
