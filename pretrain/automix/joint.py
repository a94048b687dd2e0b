"""AutoMix without the momentum pipeline: one network for both tasks (Eq. 3), Table 10's first row of the Mix Block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pretrain.automix.automix import AutoMix
from pretrain.automix.heads import mixed_logits, one_hot_network
from pretrain.automix.losses import Losses, mask_ratio_loss, mixed_loss
from pretrain.automix.step import Backward, differentiate, draw_pairs, mix, share_error
from pretrain.backbones import stage_features


class JointAutoMix(AutoMix):
    """Network and Mix Block on the same mixed images, each with the gradient of the same loss (Eq. 9).

    This is what the momentum pipeline decouples; it is here for the ablation. `generation_ce` is zero: the one mixed
    loss is `mixed_ce`.

    Args:
        student, mix_block, settings, criterion: As in `AutoMix`; `settings.momentum` is None.
    """

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
        """Return the losses of one batch, see `AutoMix.training_step`; `lam_k` and `index_k` are not used."""
        s = self.settings
        lam, _, index, _ = draw_pairs(images, s.alpha, (lam_q, lam_k, index_q, index_k), generator)
        zero = images.new_zeros(())
        ce = zero
        if s.one_hot_ce:
            [ce] = differentiate(backward, self.criterion(self.student(images), labels))
        mask = self.mix_block(self.features(images), index, lam, (images.shape[-2], images.shape[-1]))
        logits = mixed_logits(self.student, mix(images, index, mask))
        mixed_ce = mixed_loss(self.criterion, logits, labels, index, lam)
        mask_ratio = self.gamma * mask_ratio_loss(mask, lam, s.margin, s.mask_ratio_over)
        mixed_ce, mask_ratio = differentiate(backward, mixed_ce, mask_ratio)
        self.measures["lam_error"] = share_error(mask, lam)
        return Losses(ce, mixed_ce, zero, mask_ratio, ce + mixed_ce + mask_ratio)

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return the student's own stage-l feature maps (N, C, h, w)."""
        return stage_features(one_hot_network(self.student), images, self.settings.feature_layer)

    def after_step(self) -> None:
        """Nothing follows the optimizer's step."""

    def encoders(self) -> dict[str, nn.Module]:
        """Return the one network."""
        return {"model": one_hot_network(self.student)}
