"""AutoMix, one step (Section 3; Algorithm 1 in the appendix)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.automix.heads import TwoHeads, mixed_logits, one_hot_network
from pretrain.automix.losses import Criterion, Losses, mask_ratio_loss, mixed_loss
from pretrain.automix.mix_block import MixBlock
from pretrain.automix.momentum import MomentumEncoder, momentum_at
from pretrain.automix.settings import AutoMixSettings
from pretrain.automix.step import Backward, differentiate, draw_pairs, halves, mix, share_error
from pretrain.backbones import stage_features
from pretrain.mixups.policy import sample_lam, sample_partners


class AutoMix(nn.Module):
    """Student, teacher and Mix Block, trained together.

    Args:
        student: A classifier of `build_backbone`, images (N, 3, H, W) to logits (N, K).
        mix_block: Its `in_channels` are the channels after stage `settings.feature_layer`. A block whose parameters
            are frozen has nothing to learn: the generation branch is dropped.
        settings: See `AutoMixSettings`.
        criterion: Logits (N, K) and targets, (N,) int64 or (N, K) float, to a scalar; None: cross-entropy.
        feature_network: A trained network whose feature maps a frozen Mix Block reads; None: the teacher's.
    """

    def __init__(
        self,
        student: nn.Module,
        mix_block: MixBlock,
        settings: AutoMixSettings | None = None,
        criterion: Criterion | None = None,
        feature_network: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings or AutoMixSettings()
        self.criterion = criterion or nn.CrossEntropyLoss()
        self.mix_block = mix_block
        self.generates = any(parameter.requires_grad for parameter in mix_block.parameters())
        self.student = TwoHeads(student) if self.settings.heads == 2 else student
        if self.settings.momentum is not None:
            self.teacher = MomentumEncoder(self.student, self.settings.teacher_statistics == "own")
        self.feature_network = feature_network
        if feature_network is not None:
            feature_network.requires_grad_(False).eval()
        self.mixes = True
        self.measures: dict[str, Tensor] = {}
        self.set_progress(0, 1)

    def set_progress(self, step: int, total_steps: int) -> None:
        """Set gamma, m and whether the Mix Block learns, for step `step` of `total_steps`, from 0."""
        s, progress = self.settings, step / total_steps
        left = {"linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2, "constant": 1.0}
        self.gamma = s.gamma * left[s.gamma_schedule]
        self.momentum = momentum_at(progress, s.momentum or 0.0, s.momentum_end, s.momentum_hold)
        skipped = math.floor((step + 1) * s.generation_skip) > math.floor(step * s.generation_skip)
        self.generating = self.generates and not skipped  # the same on every process

    def training_step(
        self,
        images: Tensor,
        labels: Tensor,
        lam_q: float | None = None,
        lam_k: float | None = None,
        index_q: Tensor | None = None,
        index_k: Tensor | None = None,
        generator: torch.Generator | None = None,
        backward: Backward | None = None,
    ) -> Losses:
        """Return the losses of one batch; what is not given (lambda, partners) is drawn from `generator`.

        Args:
            images: (N, 3, H, W) float, normalised.
            labels: (N,) int64.
            lam_q, lam_k: lambda of the student's and of the teacher's branch.
            index_q, index_k: (N,) int64, partners in the student's and in the teacher's branch.
            generator: On the CPU; the global one where it is None.
            backward: Called with the loss of each branch as soon as it is known, such as `torch.Tensor.backward`. So
                one branch's activations are alive at a time, and the losses come back without a graph.

        Returns:
            The terms of Eq. 8. Without `backward`, `total.backward()` fills the same gradients, of the student and of
            the Mix Block, and holds the activations of all branches until then.
        """
        s = self.settings
        clean, clean_labels = images, labels
        if s.split_batch:  # each image is seen in one way, not in both; the draws are those of the mixed half
            (clean, clean_labels), (images, labels) = halves(images, labels)
        lam_q, lam_k, index_q, index_k = draw_pairs(images, s.alpha, (lam_q, lam_k, index_q, index_k), generator)
        size = (images.shape[-2], images.shape[-1])
        zero = images.new_zeros(())

        # One projection of the feature maps, computed without the layers behind stage l, serves both masks (Eqs. 5, 6).
        projection = self.mix_block.project(self.features(images))
        with torch.no_grad():  # no gradient from the student to the Mix Block
            mask_q = self.mix_block.mask(projection, index_q, lam_q, size)
            if min(lam_q, 1 - lam_q) <= s.lam_margin:
                mask_q.fill_(lam_q)

        # Generation: the teacher, which asks for no gradient itself, trains the Mix Block (Eq. 11).
        generation_ce, mask_ratio = zero, zero
        if self.generating:
            mask_k = self.mix_block.mask(projection, index_k, lam_k, size)
            logits = mixed_logits(self.teacher.network, mix(images, index_k, mask_k))  # Eq. 4
            generation_ce = mixed_loss(self.criterion, logits, labels, index_k, lam_k)  # Eq. 2
            mask_ratio = self.gamma * mask_ratio_loss(mask_k, lam_k, s.margin, s.mask_ratio_over)  # Eq. 7
            generation_ce, mask_ratio = differentiate(backward, generation_ce, mask_ratio)
            self.measures["lam_error_k"] = share_error(mask_k, lam_k)

        # Classification: the student learns from clean and from mixed images (Eq. 10).
        ce = zero
        if s.one_hot_ce:
            [ce] = differentiate(backward, self.criterion(self.student(clean), clean_labels))  # Eq. 1
        logits = mixed_logits(self.student, mix(images, index_q, mask_q))  # Eq. 4
        [mixed_ce] = differentiate(backward, mixed_loss(self.criterion, logits, labels, index_q, lam_q))  # Eq. 2
        self.measures["lam_error"] = share_error(mask_q, lam_q)
        return Losses(ce, mixed_ce, generation_ce, mask_ratio, ce + mixed_ce + generation_ce + mask_ratio)  # Eq. 8

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return the stage-l feature maps (N, C, h, w) that the Mix Block reads; nothing behind stage l is computed.

        Where the teacher keeps batch-norm statistics of its own, all its layers have to see the clean images.
        """
        network = self.feature_network or one_hot_network(self.teacher.network)
        whole = self.settings.teacher_statistics == "own" and self.feature_network is None
        return stage_features(network, images, self.settings.feature_layer, stop_early=not whole)

    def after_step(self) -> None:
        """Move the teacher after the optimizer's step (Eq. 12)."""
        self.teacher.update(self.student, self.momentum)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what an optimizer trains: the student and the Mix Block, which may have a learning rate of its own."""
        own = {"lr": self.settings.mix_block_lr, "min_lr": self.settings.mix_block_min_lr}
        block = {
            "params": [*self.mix_block.parameters()],
            **{key: rate for key, rate in own.items() if rate is not None},
        }
        return [{"params": [*self.student.parameters()]}, *([block] if self.generates else [])]

    def encoders(self) -> dict[str, nn.Module]:
        """Return what can be evaluated and exported; the first, the teacher, is the result (Section 3.2)."""
        return {"teacher": one_hot_network(self.teacher.network), "student": one_hot_network(self.student)}

    @torch.no_grad()
    def mixed(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return mixed images (N, 3, H, W) and soft labels (N, K), for looking at; with lambda as in training."""
        lam, index = sample_lam(self.settings.alpha, generator), sample_partners(len(images), images.device, generator)
        mask = self.mix_block(self.features(images), index, lam, (images.shape[-2], images.shape[-1]))
        return mix(images, index, mask), torch.lerp(targets[index], targets, lam)

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Let torch.compile translate the networks; arguments are its own."""
        self.student.compile(*arguments, **options)
        if self.settings.momentum is not None:
            self.teacher.network.compile(*arguments, **options)

    def train(self, mode: bool = True) -> AutoMix:
        """Set training mode; what is frozen stays in eval mode."""
        super().train(mode)
        if not self.generates:
            self.mix_block.eval()
        if self.feature_network is not None:
            self.feature_network.eval()
        return self
