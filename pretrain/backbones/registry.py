"""Backbones by name, from timm, with the feature map of a stage for the Mix Block."""

from __future__ import annotations

from typing import Any

import timm
from torch import Tensor, nn

from pretrain.console import UserError, did_you_mean


def build_backbone(name: str, num_classes: int, **settings: Any) -> nn.Module:
    """Build a classifier with random weights; its parameters carry timm's names.

    Residual branches end in a zero-initialised norm and the head is drawn from N(0, 0.01), as in the authors' code.

    Args:
        name: A timm architecture, such as "resnet18".
        num_classes: Width of the classification head.
        settings: Passed on to `timm.create_model`, e.g. `drop_path_rate=0.1`.

    Returns:
        A module that maps images (N, 3, H, W) float to logits (N, num_classes).

    Raises:
        UserError: timm does not know the name.
    """
    if not timm.is_model(name):
        raise UserError(f"unknown backbone '{name}'{did_you_mean(name, timm.list_models())}")
    model: Any = timm.create_model(name, num_classes=num_classes, **settings)
    head = model.get_classifier()
    if isinstance(head, nn.Linear):
        nn.init.normal_(head.weight, std=0.01)
        nn.init.zeros_(head.bias)
    return model


def stage_features(model: nn.Module, images: Tensor, stage: int) -> Tensor:
    """Return the feature map after stage `stage`, and compute nothing behind it.

    Args:
        model: A network of `build_backbone`.
        images: (N, 3, H, W).
        stage: 1 to 4 for a network of four stages; 3 is the paper's choice (l = 3).

    Returns:
        (N, C, h, w), whatever the layout inside the network.
    """
    network: Any = model
    position = _stage_positions(model)[stage - 1]
    [features] = network.forward_intermediates(
        images, indices=[position], stop_early=True, output_fmt="NCHW", intermediates_only=True
    )
    return features


def stage_channels(model: nn.Module, stage: int) -> int:
    """Return the number of channels of the feature map after stage `stage`."""
    stages = _stage_positions(model)
    if not 1 <= stage <= len(stages):
        raise UserError(f"the feature layer is {stage}, but the backbone has stages 1 to {len(stages)}")
    network: Any = model
    return int(network.feature_info[stages[stage - 1]]["num_chs"])


def _stage_positions(model: nn.Module) -> list[int]:
    """Return the positions of stages 1, 2, ... in timm's list of features: the stem, where listed, is left out."""
    network: Any = model
    info = list(network.feature_info)
    return [i for i, entry in enumerate(info) if not entry["module"].startswith(("act", "stem", "conv_stem"))]


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable scalars."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
