"""Backbones by name, from timm and for small images, with the feature map of a stage for the Mix Block."""

from __future__ import annotations

from typing import Any

import timm
from torch import Tensor, nn

from pretrain.backbones.cifar_resnet import CIFAR_RESNETS
from pretrain.console import UserError, did_you_mean


def build_backbone(name: str, num_classes: int, **settings: Any) -> nn.Module:
    """Build a classifier with random weights; its parameters carry timm's names.

    Residual branches end in a zero-initialised norm and the head is drawn from N(0, 0.01), as in the authors' code.

    Args:
        name: A timm architecture, such as "resnet18", or one of `CIFAR_RESNETS`, for images of 32 and 64 pixels.
        num_classes: Width of the classification head.
        settings: Passed on to `timm.create_model`, e.g. `drop_path_rate=0.1`.

    Returns:
        A module that maps images (N, 3, H, W) float to logits (N, num_classes).

    Raises:
        UserError: Nobody knows the name.
    """
    model: Any
    if name in CIFAR_RESNETS:
        model = CIFAR_RESNETS[name](num_classes=num_classes, **settings)
    elif timm.is_model(name):
        model = timm.create_model(name, num_classes=num_classes, **settings)
    else:
        raise UserError(f"unknown backbone '{name}'{did_you_mean(name, [*CIFAR_RESNETS, *timm.list_models()])}")
    head = model.get_classifier()
    if isinstance(head, nn.Linear):
        init_head(head)
    return model


def init_head(head: nn.Linear) -> None:
    """Draw a classification head from N(0, 0.01), its bias zero."""
    nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)


def stem_of(name: str) -> str:
    """Return the card's word for the stem of a backbone: "cifar" or "imagenet"."""
    return "cifar" if name in CIFAR_RESNETS else "imagenet"


def stage_features(model: nn.Module, images: Tensor, stage: int, stop_early: bool = True) -> Tensor:
    """Return the feature map after stage `stage`, and compute nothing behind it, unless `stop_early` is False.

    Args:
        model: A network of `build_backbone`.
        images: (N, 3, H, W).
        stage: From 1; 3 is the paper's choice (l = 3). Stages are the last four resolutions of a network, or, where all
            its blocks have one resolution as in DeiT, its quarters: l = 2 is the authors' block 6 of 12.
        stop_early: Whether the layers behind the stage are left out.

    Returns:
        (N, C, h, w), whatever the layout inside the network; class tokens are left out.
    """
    network: Any = model
    [features] = network.forward_intermediates(
        images, indices=[_position(model, stage)], stop_early=stop_early, output_fmt="NCHW", intermediates_only=True
    )
    return features


def stage_channels(model: nn.Module, stage: int) -> int:
    """Return the number of channels of the feature map after stage `stage`."""
    network: Any = model
    return int(network.feature_info[_position(model, stage)]["num_chs"])


def stage_count(model: nn.Module) -> int:
    """Return the number of stages, which is that of the last one: 4, or 3 where a network has no more resolutions."""
    return len(_positions(model))


def stage_module(model: nn.Module, stage: int) -> nn.Module:
    """Return the module whose output is the feature map of stage `stage`, e.g. to hook it.

    Its output is that of `stage_features` in the layout that the network uses inside: (N, C, h, w); (N, h, w, C) where
    timm's `output_fmt` of the network is "NHWC", as in Swin; tokens (N, T, C), class tokens first, as in DeiT.

    Args:
        model: A network of `build_backbone`.
        stage: From 1, as in `stage_features`.

    Raises:
        UserError: The network has no such stage.
    """
    network: Any = model
    return network.get_submodule(network.feature_info[_position(model, stage)]["module"])


def _positions(model: nn.Module) -> list[int]:
    """Return where the stages are in timm's list of features, which may hold a stem and early resolutions too."""
    network: Any = model
    info = list(network.feature_info)
    if len(info) > 4 and len({entry["reduction"] for entry in info}) == 1:
        return [len(info) * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]
    return list(range(len(info)))[-4:]


def _position(model: nn.Module, stage: int) -> int:
    """Return where a stage is in timm's list of features."""
    stages = _positions(model)
    if not 1 <= stage <= len(stages):
        raise UserError(f"the feature layer is {stage}, but the backbone has stages 1 to {len(stages)}")
    return stages[stage - 1]
