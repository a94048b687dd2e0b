"""AutoMix, one step (Section 3; Algorithm 1 in the appendix)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.automix.losses import Losses, mask_ratio_loss, mixed_cross_entropy
from pretrain.automix.mix_block import MixBlock
from pretrain.automix.momentum import MomentumEncoder, cosine_momentum
from pretrain.backbones import stage_features
from pretrain.mixups.policy import sample_lam, sample_partners


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AutoMixSettings:
    """Settings of AutoMix; the defaults are the paper's text (Sections 3 and 4.1).

    Attributes:
        alpha: lambda ~ Beta(alpha, alpha).
        feature_layer: Stage l whose feature map the Mix Block reads, from 1.
        gamma: Weight of the mask-ratio loss at the start; it falls linearly to 0 (Eq. 7).
        margin: epsilon of Eq. 7.
        momentum, momentum_end: m of Eq. 12 at the start and at the end of the run, along a cosine.
        mix_block_lr: The Mix Block's own peak learning rate, as in the authors' code; None: the student's.
        reduction, lam_embedding, upsample: The Mix Block's, see `MixBlock`.
    """

    name: Literal["automix"] = "automix"
    alpha: float = 2.0
    feature_layer: int = 3
    gamma: float = 0.1
    margin: float = 0.1
    momentum: float = 0.999
    momentum_end: float = 1.0
    mix_block_lr: float | None = None
    reduction: int = 2
    lam_embedding: bool = True
    upsample: Literal["nearest", "bilinear"] = "nearest"


class AutoMix(nn.Module):
    """Student, teacher and Mix Block, trained together.

    Args:
        student: A classifier of `build_backbone`, images (N, 3, H, W) to logits (N, K).
        mix_block: Its `in_channels` are the student's channels after stage `settings.feature_layer`.
        settings: See `AutoMixSettings`.
    """

    def __init__(self, student: nn.Module, mix_block: MixBlock, settings: AutoMixSettings | None = None) -> None:
        super().__init__()
        self.settings = settings or AutoMixSettings()
        self.student = student
        self.teacher = MomentumEncoder(student)
        self.mix_block = mix_block
        self.set_progress(0.0)

    def set_progress(self, progress: float) -> None:
        """Set gamma and m for the steps that follow; `progress` in [0, 1] is the part of the run that is done."""
        self.gamma = self.settings.gamma * (1 - progress)
        self.momentum = cosine_momentum(self.settings.momentum, self.settings.momentum_end, progress)

    def training_step(
        self,
        images: Tensor,
        labels: Tensor,
        lam_q: float | None = None,
        lam_k: float | None = None,
        index_q: Tensor | None = None,
        index_k: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Losses:
        """Return the losses of one batch; what is not given (lambda, partners) is drawn from `generator`.

        Args:
            images: (N, 3, H, W) float, normalised.
            labels: (N,) int64.
            lam_q, lam_k: lambda of the student's and of the teacher's branch.
            index_q, index_k: (N,) int64, partners in the student's and in the teacher's branch.
            generator: On the CPU; the global one where it is None.

        Returns:
            The terms of Eq. 8; `total.backward()` fills the gradients of the student and of the Mix Block.
        """
        alpha, n = self.settings.alpha, len(images)
        lam_q = sample_lam(alpha, generator) if lam_q is None else lam_q
        lam_k = sample_lam(alpha, generator) if lam_k is None else lam_k
        index_q = sample_partners(n, images.device, generator) if index_q is None else index_q
        index_k = sample_partners(n, images.device, generator) if index_k is None else index_k

        with torch.no_grad():  # the teacher's features of the clean images; nothing behind stage l is computed
            features = stage_features(self.teacher.network, images, self.settings.feature_layer)
            mixed_q, _ = self.mix(images, features, index_q, lam_q)  # no gradient from the student to the mask
        mixed_k, mask_k = self.mix(images, features, index_k, lam_k)

        ce = F.cross_entropy(self.student(images), labels)  # Eq. 1
        mixed_ce = mixed_cross_entropy(self.student(mixed_q), labels, index_q, lam_q)  # Eq. 2, for theta (Eq. 10)
        generation_ce = mixed_cross_entropy(self.teacher.network(mixed_k), labels, index_k, lam_k)  # for phi (Eq. 11)
        mask_ratio = self.gamma * mask_ratio_loss(mask_k, lam_k, self.settings.margin)  # Eq. 7
        return Losses(ce, mixed_ce, generation_ce, mask_ratio, ce + mixed_ce + generation_ce + mask_ratio)  # Eq. 8

    def mix(self, images: Tensor, features: Tensor, index: Tensor, lam: float) -> tuple[Tensor, Tensor]:
        """Eq. 4: return the mixed images (N, 3, H, W) and the masks (N, 1, H, W) of images[i]."""
        mask = self.mix_block(features, index, lam, (images.shape[-2], images.shape[-1]))
        return mask * images + (1 - mask) * images[index], mask

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what an optimizer trains: the student and the Mix Block, which may have a learning rate of its own."""
        own = {} if self.settings.mix_block_lr is None else {"lr": self.settings.mix_block_lr}
        return [{"params": [*self.student.parameters()]}, {"params": [*self.mix_block.parameters()], **own}]

    def after_step(self) -> None:
        """Move the teacher after the optimizer's step (Eq. 12)."""
        self.teacher.update(self.student, self.momentum)

    def encoders(self) -> dict[str, nn.Module]:
        """Return what can be evaluated and exported; the first, the teacher, is the result (Section 3.2)."""
        return {"teacher": self.teacher.network, "student": self.student}
