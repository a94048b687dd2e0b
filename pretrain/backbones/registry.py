"""Backbones by name, from timm and for small images, with the feature map of a stage for the Mix Block."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
from timm.models import get_pretrained_cfg_value
from torch import Tensor, nn

from pretrain.backbones.cifar_resnet import CIFAR_RESNETS
from pretrain.backbones.slim_resnet import SLIM_RESNETS
from pretrain.console import UserError, did_you_mean


def build_backbone(name: str, num_classes: int, **settings: Any) -> nn.Module:
    """Build a classifier with random weights; its parameters carry timm's names.

    ResNets of all kinds, which are the networks whose head is a layer `fc`, start as in the authors' code: the head is
    drawn from N(0, 0.01), and residual branches that end in a norm end in a zero-initialised one. All others start as
    timm draws them, heads included, which is how they are published: EfficientNet and MobileNetV2 as in the RSB
    procedure, whose code is timm; ConvNeXt, DeiT and Swin from a truncated normal of 0.02, which the authors' configs
    ask for too.

    Args:
        name: A timm architecture, such as "resnet18", one of `CIFAR_RESNETS`, for images of 32 and 64 pixels, or one of
            `SLIM_RESNETS`, of fewer channels.
        num_classes: Width of the classification head.
        settings: Passed on to the network, e.g. `drop_path_rate=0.1`; `img_size=64` for those that are built for one
            image size, see `takes_image_size`.

    Returns:
        A module that maps images (N, 3, H, W) float to logits (N, num_classes).

    Raises:
        UserError: Nobody knows the name, or the network takes no such setting.
    """
    own = CIFAR_RESNETS | SLIM_RESNETS
    if name in own:
        build: Callable[..., Any] = own[name]
    elif timm.is_model(name):
        build = partial(timm.create_model, name)
    else:
        raise UserError(f"unknown backbone '{name}'{did_you_mean(name, [*own, *timm.list_models()])}")
    try:
        model = build(num_classes=num_classes, **settings)
    except TypeError as error:  # timm asks the network's constructor alone what it takes
        refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if refused is None or refused[1] not in settings:
            raise
        raise UserError(f"backbone '{name}' takes no setting '{refused[1]}'; leave it out") from error
    if isinstance(getattr(model, "fc", None), nn.Linear):
        init_head(model.fc)
    return model


def takes_image_size(name: str) -> bool:
    """Return whether a backbone is built for one image size, by `img_size`, as DeiT and Swin are; others see any."""
    return timm.is_model(name) and bool(get_pretrained_cfg_value(name, "fixed_input_size"))


def init_head(head: nn.Linear) -> None:
    """Draw a classification head from N(0, 0.01), its bias zero, as the authors do for ResNets."""
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
