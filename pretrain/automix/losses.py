"""The losses of AutoMix: Eq. 2 for both branches, Eq. 7 for the mask, Eq. 8 for their sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from timm.loss import BinaryCrossEntropy
from torch import Tensor, nn

from pretrain.mixups.policy import one_hot

Criterion = Callable[[Tensor, Tensor], Tensor]


class Losses(NamedTuple):
    """The terms of Eq. 8, each a scalar tensor; `mask_ratio` carries its weight gamma already."""

    ce: Tensor
    mixed_ce: Tensor
    generation_ce: Tensor
    mask_ratio: Tensor
    total: Tensor


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LossSettings:
    """The classification loss of clean and of mixed images, in the student's and in the teacher's branch alike.

    Attributes:
        name: "ce" is cross-entropy with soft targets; "bce" is the sum over the classes of one-against-all binary
            cross-entropies (the RSB procedures of Table 12).
        smoothing: Label smoothing on top of the mixed labels (0.1 in Table 12's DeiT procedure); "ce" only.
        target_threshold: "bce" only: targets above it count as 1, others as 0 (0.2 in timm's RSB recipes); None keeps
            soft targets.
    """

    name: Literal["ce", "bce"] = "ce"
    smoothing: float = 0.0
    target_threshold: float | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> LossSettings:
        if self.name == "bce" and self.smoothing:
            raise ValueError("smoothing belongs to 'ce': set it to 0, or loss.name to 'ce'")
        if self.name == "ce" and self.target_threshold is not None:
            raise ValueError("target_threshold belongs to 'bce': leave it out, or set loss.name to 'bce'")
        return self


def build_criterion(settings: LossSettings) -> Criterion:
    """Return the loss: logits (N, K) and targets, (N,) int64 or (N, K) float, to a scalar."""
    if settings.name == "bce":
        return BinaryCrossEntropy(smoothing=0.0, target_threshold=settings.target_threshold, sum_classes=True)
    return nn.CrossEntropyLoss(label_smoothing=settings.smoothing)


def mixed_loss(criterion: Criterion, logits: Tensor, labels: Tensor, index: Tensor, lam: float) -> Tensor:
    """Eq. 2, with the mixed labels as soft targets: for cross-entropy, lam CE(., y_i) + (1 - lam) CE(., y_j).

    Args:
        criterion: From `build_criterion`.
        logits: (N, K).
        labels: (N,) int64.
        index: (N,) int64, the partner of each image.
        lam: The share of image i.
    """
    targets = one_hot(labels, logits.shape[1], logits.dtype)
    return criterion(logits, torch.lerp(targets[index], targets, lam))


def mask_ratio_loss(
    mask: Tensor, lam: float, margin: float = 0.1, over: Literal["sample", "batch"] = "sample"
) -> Tensor:
    """Eq. 7 without its weight: max(|lam - mean of the mask| - margin, 0).

    Args:
        mask: (N, 1, H, W), the weight of image i.
        lam: The share of image i that was asked for.
        margin: How far the mean may be off at no cost (epsilon in the paper).
        over: The mean is each sample's, and the losses are averaged (the paper), or the batch's (the authors' code).
    """
    mean = mask.mean(dim=(1, 2, 3)) if over == "sample" else mask.mean()
    return torch.clamp((lam - mean).abs() - margin, min=0).mean()
