"""TransMix (Chen et al., 2022): CutMix whose labels follow where a vision transformer's class token looks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.console import UserError
from pretrain.mixups.cutmix import BoxDraw, CutMix
from pretrain.mixups.policy import Criterion, MixContext, MixResult, mix_targets


@dataclass(frozen=True)
class TransMixResult(MixResult):
    """CutMix's batch, whose labels are by area until the forward pass of its loss refines them.

    Attributes:
        targets: (N, K) float, the labels before the mix.
        attention: See `MixContext`.
    """

    targets: Tensor = field(kw_only=True)
    attention: Callable[[nn.Module], AbstractContextManager[list[Tensor]]] = field(kw_only=True)

    def loss(self, model: nn.Module, criterion: Criterion) -> Tensor:
        """Return the loss of the mixed batch against the labels that its own forward pass refines, a scalar.

        Raises:
            UserError: The network has no class token whose attention can be read, or the pass was not recorded: where
                torch.compile has met the network in training mode without the recording, it goes on without it.
        """
        with self.attention(model) as maps:
            logits = model(self.images)
        if len(maps) != 1:
            raise UserError(
                f"transmix: the forward pass has left {len(maps)} attention maps, not one; torch.compile leaves "
                "none where it has met the network without this method before: set run.compile to false"
            )
        return criterion(logits, refine(self, maps[0]).soft_targets)


@dataclass(frozen=True)
class TransMix(CutMix):
    """CutMix on vision transformers; the label is half by area and half by the class token's attention, see `refine`.

    Every batch is mixed by CutMix, as the definition has it. The official recipe is DeiT's: it draws MixUp or CutMix
    for each batch, and refines the CutMix ones (Beckschen/TransMix, transmix.py).

    Attributes:
        alpha: lambda ~ Beta(alpha, alpha); 1.0 in the official configs.
    """

    name: ClassVar[str] = "transmix"
    needs: ClassVar[tuple[str, ...]] = ("attention",)

    def apply(
        self, images: Tensor, targets: Tensor, draw: BoxDraw, context: MixContext | None = None
    ) -> TransMixResult:
        """See `MixPolicy`."""
        attention = self.ask(context, "attention")
        cut = super().apply(images, targets, draw)
        return TransMixResult(
            cut.images, cut.lam, cut.index, cut.mask, cut.soft_targets, targets=targets, attention=attention
        )


def refine(result: TransMixResult, attention: Tensor) -> MixResult:
    """Return the batch with lam = (share of the area + share of the attention) / 2, for each image.

    The mask comes to the patches by nearest-neighbour sampling, as in the official code: a patch belongs to the image
    that shows at its first pixel. The attention counts relative to the sum over all patches. Where no patch gets any,
    the area decides alone.

    Args:
        result: Of `TransMix`, lam by area.
        attention: (N, h, w) float, what the class token of each mixed image gives to its patches.
    """
    assert result.lam is not None
    assert result.index is not None
    assert result.mask is not None
    own = F.interpolate(result.mask, size=attention.shape[1:], mode="nearest").squeeze(1)
    total = attention.sum(dim=(1, 2))
    share = torch.where(total > 0, (own * attention).sum(dim=(1, 2)) / total, result.lam)
    lam = (result.lam + share) / 2
    return MixResult(result.images, lam, result.index, result.mask, mix_targets(result.targets, result.index, lam))
