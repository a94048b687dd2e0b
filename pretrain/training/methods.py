"""From settings to the module that knows its losses; the loop knows none of the methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from pretrain.automix import (
    AutoMix,
    AutoMixSettings,
    JointAutoMix,
    LossSettings,
    MixBlock,
    MomentumEncoder,
    build_criterion,
    load_mix_block,
)
from pretrain.automix.losses import Criterion
from pretrain.automix.momentum import momentum_at
from pretrain.automix.step import Backward, differentiate
from pretrain.backbones import (
    build_backbone,
    cls_attention,
    load_backbone,
    load_pretrained,
    stage_channels,
    start_from,
    takes_image_size,
    untrained,
)
from pretrain.console import UserError
from pretrain.mixups import MixPolicy, training_context
from pretrain.mixups.policy import one_hot
from pretrain.training.method_settings import MethodSettings, PolicySettings
from pretrain.training.settings import Settings


class StepLosses(Protocol):
    """A NamedTuple of scalar tensors; None is a term that the method does not have."""

    def _asdict(self) -> dict[str, Tensor | None]: ...


class Method(Protocol):
    """What the loop asks of a method, which is an nn.Module.

    Attributes:
        mixes: Whether there are mixed images to look at.
        measures: What else of the last step is worth a line in the log, scalars by name.
    """

    mixes: bool
    measures: dict[str, Tensor]

    def set_progress(self, step: int, total_steps: int) -> None:
        """Set what changes along the run, for step `step` of `total_steps`, from 0."""

    def training_step(
        self, images: Tensor, labels: Tensor, *, generator: torch.Generator, backward: Backward
    ) -> StepLosses:
        """Hand each loss to `backward` and return them all; `total` is their sum."""

    def modules(self) -> Iterator[nn.Module]:
        """Return all modules, those of nn.Module."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what the optimizer trains; a group may name learning rates of its own, "lr" and "min_lr"."""

    def after_step(self) -> None:
        """Do what follows the optimizer's step."""

    def encoders(self) -> dict[str, nn.Module]:
        """Return the networks that can be evaluated and exported, the method's result first."""

    def mixed(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return mixed images and their soft labels (N, K), of targets (N, K), for looking at."""


class ClassificationLosses(NamedTuple):
    """The losses of a method that trains one network; None is a term that it does not have."""

    ce: Tensor | None
    mixed_ce: Tensor | None
    total: Tensor


class Classification(nn.Module):
    """One network, trained on clean images, on mixed ones, or on both.

    Args:
        model: Images (N, 3, H, W) to logits (N, K).
        num_classes: K.
        policy: The mixing method; None trains on the clean images (vanilla).
        settings: The policy's; they may ask for the momentum pipeline and one-hot cross-entropy of Table 10.
        criterion: Logits (N, K) and targets to a scalar; None: cross-entropy.
        frozen: A trained network that the mixing method reads; it stays as it is, in eval mode.
        ema_decay: Decay of an average of the weights, which is then the result; a method whose settings ask for a
            momentum encoder has that one alone.
    """

    def __init__(
        self,
        model: nn.Module,
        num_classes: int,
        policy: MixPolicy | None = None,
        settings: PolicySettings | None = None,
        criterion: Criterion | None = None,
        frozen: nn.Module | None = None,
        ema_decay: float | None = None,
    ) -> None:
        super().__init__()
        self.model, self.num_classes, self.policy = model, num_classes, policy
        self.settings = settings
        self.criterion = criterion or nn.CrossEntropyLoss()
        self.frozen = frozen
        self.context = training_context(model, self.criterion, frozen)
        self.has_teacher = settings is not None and settings.momentum is not None
        self.momentum = 0.0 if ema_decay is None else ema_decay
        self.average = MomentumEncoder(model) if self.has_teacher or ema_decay is not None else None
        self.mixes = policy is not None and policy.mixes_images
        self.measures: dict[str, Tensor] = {}
        self.set_progress(0, 1)

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Let torch.compile translate the networks; arguments are its own."""
        self.model.compile(*arguments, **options)

    def set_progress(self, step: int, total_steps: int) -> None:
        """Set m of Eq. 12, where there is a teacher."""
        if self.settings is not None and self.settings.momentum is not None:
            self.momentum = momentum_at(step / total_steps, self.settings.momentum, self.settings.momentum_end)

    def training_step(
        self, images: Tensor, labels: Tensor, *, generator: torch.Generator, backward: Backward | None = None
    ) -> ClassificationLosses:
        """Return the losses of one batch, see `AutoMix.training_step`; labels may be soft, (N, K) float."""
        ce = mixed_ce = None
        if self.policy is None or (self.settings is not None and self.settings.one_hot_ce):
            [ce] = differentiate(backward, self.criterion(self.model(images), labels))
        if self.policy is not None:
            targets = labels if labels.is_floating_point() else one_hot(labels, self.num_classes)
            mixed = self.policy(images, targets, self.context, generator)
            [mixed_ce] = differentiate(backward, mixed.loss(self.model, self.criterion))
        total = torch.stack([term for term in (ce, mixed_ce) if term is not None]).sum()
        return ClassificationLosses(ce, mixed_ce, total)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the one network's parameters as one group."""
        return [{"params": [*self.model.parameters()]}]

    def after_step(self) -> None:
        """Move the teacher (Eq. 12), or the average of the weights, where there is one."""
        if self.average is not None:
            self.average.update(self.model, self.momentum)

    def encoders(self) -> dict[str, nn.Module]:
        """Return the one network; before it the average of its weights, or teacher and student."""
        if self.average is None:
            return {"model": self.model}
        names = ("teacher", "student") if self.has_teacher else ("ema", "model")
        return dict(zip(names, (self.average.network, self.model)))

    def mixed(self, images: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return what the policy makes of the images and of their targets (N, K)."""
        if self.policy is None:
            raise ValueError("vanilla training mixes nothing")
        result = self.policy(images, targets, self.context, generator)
        return result.images, result.soft_targets

    def train(self, mode: bool = True) -> Classification:
        """Set training mode; the frozen network stays in eval mode."""
        super().train(mode)
        if self.frozen is not None:
            self.frozen.eval()
        return self


def views_of(settings: MethodSettings) -> Callable[..., Tensor] | None:
    """Return the loader's last transform, for a method that trains on several views of an image; see `MixPolicy`."""
    return settings.policy().views if isinstance(settings, PolicySettings) else None


def build_method(
    settings: MethodSettings,
    backbone: nn.Module,
    num_classes: int,
    loss: LossSettings | None = None,
    ema_decay: float | None = None,
    read_network: Callable[[str], nn.Module] = load_pretrained,
) -> AutoMix | Classification:
    """Build the method round the network it trains; `ema_decay` is for methods without a momentum encoder.

    Raises:
        UserError: The backbone has no such feature layer, or no class token where the method reads its attention; a
            trained Mix Block or a frozen network cannot be read.
    """
    criterion = build_criterion(loss or LossSettings())
    if isinstance(settings, AutoMixSettings):
        if settings.trained_mix_block:
            block, features = _trained_mix_block(Path(settings.trained_mix_block), settings.feature_layer)
            return AutoMix(backbone, block, settings, criterion, features)
        block = MixBlock(
            stage_channels(backbone, settings.feature_layer),
            settings.reduction,
            settings.lam_embedding,
            settings.upsample,
            norm=settings.norm,
        )
        return (AutoMix if settings.momentum is not None else JointAutoMix)(backbone, block, settings, criterion)
    if isinstance(settings, PolicySettings):
        policy = settings.policy()
        if "attention" in policy.needs:
            with cls_attention(backbone):  # raises now what it would raise in the first step
                pass
        frozen = read_network(settings.frozen_network) if settings.frozen_network is not None else None
        return Classification(backbone, num_classes, policy, settings, criterion, frozen, ema_decay)
    return Classification(backbone, num_classes, criterion=criterion, ema_decay=ema_decay)


def method_of(settings: Settings, num_classes: int) -> AutoMix | Classification:
    """Build a run's network, from trained weights where it has some, and the method round it; see `build_method`."""
    network = _network_of(settings, num_classes)
    if settings.backbone.pretrained:
        start_from(network, settings.backbone.pretrained)
    return build_method(settings.method, network, num_classes, settings.loss, settings.optim.ema_decay)


def untrained_method_of(settings: Settings, num_classes: int) -> AutoMix | Classification:
    """Build what `method_of` does from random weights, so that nothing is downloaded or read."""
    network = _network_of(settings, num_classes)
    return build_method(
        settings.method, network, num_classes, settings.loss, settings.optim.ema_decay, read_network=untrained
    )


def _network_of(settings: Settings, num_classes: int) -> nn.Module:
    backbone = settings.backbone
    rates = {"drop_path_rate": backbone.drop_path_rate, "drop_rate": backbone.drop_rate}
    options: dict[str, Any] = {name: rate for name, rate in rates.items() if rate}
    if takes_image_size(backbone.name):
        options["img_size"] = settings.data.transform.size
    return build_backbone(backbone.name, num_classes, **options)


def _trained_mix_block(path: Path, layer: int) -> tuple[MixBlock, nn.Module]:
    """Read a Mix Block and the teacher that was exported beside it, both to stay as they are."""
    block = load_mix_block(path)
    network, _ = load_backbone(path.parent / "teacher")
    channels = stage_channels(network, layer)
    if channels != block.settings.in_channels:
        raise UserError(
            f"{path}: it reads {block.settings.in_channels} channels and stage {layer} of the teacher beside it has "
            f"{channels}; set method.feature_layer to the one of the run that it is from"
        )
    return block.requires_grad_(False), network
