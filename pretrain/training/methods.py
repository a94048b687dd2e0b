"""From settings to the module that knows its losses; the loop knows none of the methods."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain import mixups
from pretrain.automix import AutoMix, AutoMixSettings, MixBlock
from pretrain.backbones import stage_channels
from pretrain.mixups import MixPolicy
from pretrain.training.settings import MethodSettings, PolicySettings


class StepLosses(Protocol):
    """A NamedTuple of scalar tensors; `total` is what the loop differentiates."""

    @property
    def total(self) -> Tensor:
        """The sum to differentiate."""

    def _asdict(self) -> dict[str, Tensor]: ...


class Method(Protocol):
    """What the loop asks of a method, which is an nn.Module."""

    def set_progress(self, progress: float) -> None:
        """Set what changes along the run; `progress` in [0, 1]."""

    def training_step(self, images: Tensor, labels: Tensor, *, generator: torch.Generator) -> StepLosses:
        """Return the losses of one batch."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what the optimizer trains; a group may name a peak learning rate of its own as "lr"."""

    def after_step(self) -> None:
        """Do what follows the optimizer's step."""

    def encoders(self) -> dict[str, nn.Module]:
        """Return the networks that can be evaluated and exported, the method's result first."""


class ClassificationLosses(NamedTuple):
    """The loss of a method that trains one network."""

    ce: Tensor
    total: Tensor


class Classification(nn.Module):
    """One network, trained on clean or on mixed images.

    Args:
        model: Images (N, 3, H, W) to logits (N, K).
        num_classes: K.
        policy: The mixing method; None trains on the clean images (vanilla).
    """

    def __init__(self, model: nn.Module, num_classes: int, policy: MixPolicy | None = None) -> None:
        super().__init__()
        self.model = model
        self.num_classes = num_classes
        self.policy = policy

    def set_progress(self, progress: float) -> None:
        """Nothing changes along the run."""

    def training_step(self, images: Tensor, labels: Tensor, *, generator: torch.Generator) -> ClassificationLosses:
        """Return the cross-entropy with the labels, soft ones where images are mixed."""
        if self.policy is None:
            loss = F.cross_entropy(self.model(images), labels)
        else:
            one_hot = F.one_hot(labels, self.num_classes).to(images.dtype)
            mixed = self.policy(images, one_hot, generator=generator)
            loss = F.cross_entropy(self.model(mixed.images), mixed.soft_targets)
        return ClassificationLosses(loss, loss)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the one network's parameters as one group."""
        return [{"params": [*self.model.parameters()]}]

    def after_step(self) -> None:
        """Nothing follows the optimizer's step."""

    def encoders(self) -> dict[str, nn.Module]:
        """Return the one network."""
        return {"model": self.model}


def build_method(settings: MethodSettings, backbone: nn.Module, num_classes: int) -> AutoMix | Classification:
    """Build the method round the network it trains."""
    if isinstance(settings, AutoMixSettings):
        block = MixBlock(
            stage_channels(backbone, settings.feature_layer),
            settings.reduction,
            settings.lam_embedding,
            settings.upsample,
        )
        return AutoMix(backbone, block, settings)
    policy = mixups.build(settings.name, alpha=settings.alpha) if isinstance(settings, PolicySettings) else None
    return Classification(backbone, num_classes, policy)
