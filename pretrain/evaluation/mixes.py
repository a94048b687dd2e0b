"""The mixing methods that an exported checkpoint is looked at with: two yardsticks, and its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pretrain import mixups
from pretrain.automix import AutoMixSettings, LossSettings, MixBlock, build_criterion, load_mix_block
from pretrain.automix.step import mix
from pretrain.backbones import BackboneCard, load_backbone, load_pretrained, stage_features
from pretrain.console import UserError
from pretrain.mixups import POLICIES, MixContext, MixPolicy, training_context
from pretrain.mixups.policy import sample_lam, sample_partners

YARDSTICKS = ("mixup", "cutmix")  # with alpha 1, the same for every checkpoint
OWN_NONE = "trains on clean images alone, so it has no mix of its own"


class Mixing(Protocol):
    """Mixes a batch; what is not given (lambda, partners) is drawn as in training."""

    def __call__(
        self,
        images: Tensor,
        targets: Tensor,
        generator: torch.Generator,
        lam: float | None = None,
        index: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return mixed images (N, 3, H, W) and soft labels (N, K), of normalised images and targets (N, K) float.

        Methods that draw no lambda or no partners, such as Co-Mixup, pass over those that are given.
        """


@dataclass(frozen=True)
class PolicyMixing:
    """A method of `pretrain.mixups`, with what it may ask for."""

    policy: MixPolicy
    context: MixContext

    def __call__(
        self,
        images: Tensor,
        targets: Tensor,
        generator: torch.Generator,
        lam: float | None = None,
        index: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Mixing`."""
        draw = self.policy.sample(len(images), (images.shape[-2], images.shape[-1]), generator, lam=lam, index=index)
        result = self.policy.apply(images, targets, draw, self.context)
        return result.images, result.soft_targets


@dataclass(frozen=True)
class BlockMixing:
    """A trained Mix Block, and the network whose feature maps it reads, both in eval mode."""

    block: MixBlock
    network: nn.Module
    settings: AutoMixSettings

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return the feature maps (N, C, h, w) that the block reads."""
        return stage_features(self.network, images, self.settings.feature_layer)

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        targets: Tensor,
        generator: torch.Generator,
        lam: float | None = None,
        index: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Mixing`."""
        lam = sample_lam(self.settings.alpha, generator) if lam is None else lam
        index = sample_partners(len(images), generator=generator) if index is None else index
        index = index.to(images.device)
        mask = self.block(self.features(images), index, lam, (images.shape[-2], images.shape[-1]))
        return mix(images, index, mask), torch.lerp(targets[index], targets, lam)


def mixings_of(model: nn.Module, card: BackboneCard, weights: Path) -> tuple[dict[str, Mixing], str | None]:
    """Return the mixing methods for a checkpoint: MixUp and CutMix with alpha 1, and its own as it was trained with.

    A checkpoint whose own method is MixUp or CutMix has it with its own settings, in the yardstick's place.

    Args:
        model: The checkpoint's network, in eval mode; methods that follow the saliency of a network follow this one's.
        card: Its card; the settings of its method are those of `card.training`.
        weights: Its file, beside which AutoMix left its teacher and its Mix Block.

    Returns:
        The methods by name, and why the checkpoint's own is not among them; None where it is.
    """
    device = next(model.parameters()).device
    criterion = build_criterion(LossSettings(**card.training.get("loss", {})))
    context = training_context(model, criterion)
    found: dict[str, Mixing] = {name: PolicyMixing(mixups.build(name), context) for name in YARDSTICKS}
    settings: dict[str, Any] = card.training.get("method", {})
    try:
        if card.method == "automix":
            found["automix"] = _block_mixing(model, card, AutoMixSettings(**settings), weights, device)
        elif card.method in POLICIES:
            policy = mixups.build_from({**settings, "name": card.method})
            if not policy.mixes_images:
                return found, "there are no mixed images to look at: it mixes inside the network, or augments views"
            if {"features", "teacher"} & set(policy.needs):
                context = training_context(model, criterion, _frozen(settings.get("frozen_network")).to(device))
            found[card.method] = PolicyMixing(policy, context)
        else:
            return found, OWN_NONE if card.method == "vanilla" else f"its method '{card.method}' is not known here"
    except UserError as error:
        return found, str(error)
    return found, None


def _frozen(source: str | None) -> nn.Module:
    if source is None:
        raise UserError("it follows a frozen network, and its card names none (training.method.frozen_network)")
    return load_pretrained(source)


def _block_mixing(
    model: nn.Module, card: BackboneCard, settings: AutoMixSettings, weights: Path, device: torch.device
) -> BlockMixing:
    """Return the run's Mix Block with the network that it reads: the teacher, or the one network of a run without."""
    block = Path(settings.trained_mix_block) if settings.trained_mix_block else weights.parent / "mix_block.safetensors"
    if not block.is_file():
        raise UserError(f"{block}: there is no Mix Block; it belongs beside the exported networks of its run")
    network = model
    if settings.momentum is not None and (card.branch != "teacher" or settings.trained_mix_block):
        network, _ = load_backbone(block.parent / "teacher")
    return BlockMixing(load_mix_block(block).to(device), network.to(device), settings)
