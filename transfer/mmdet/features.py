"""What MMDetection's own ResNet computes with converted weights, stage by stage: one side of the parity proof."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from mmdet.models.backbones import ResNet, SwinTransformer
from mmdet.models.layers import ResLayer
from torch import Tensor, nn

from pretrain.console import UserError
from transfer.architectures import CONSTANTS, COUNTER, SWIN
from transfer.stages import STAGES, recorded

BACKBONE = "backbone."
SHARED_HEAD = "roi_head.shared_head."


@torch.no_grad()
def stage_features(state_dict: Mapping[str, Tensor], arch: str, images: Tensor, head: str) -> dict[str, Tensor]:
    """Return the feature maps after stages 1 to 4 of MMDetection's backbone (style pytorch), in eval mode.

    Args:
        state_dict: Converted weights under MMDetection's exact names: all of them under `backbone.` for "fpn";
            for "c4" the last stage under `roi_head.shared_head.`. Loaded strictly: none may be left over or missing.
        arch: "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", or Swin-T by timm's name.
        images: (N, 3, H, W), normalised, RGB.
        head: "c4" or "fpn".

    Returns:
        {"layer1": (N, C, H/4, W/4), ..., "layer4": (N, 8C, H/32, W/32)}; of a Swin transformer also "norm".

    Raises:
        UserError: MMDetection has no such network, or the names or shapes do not fit exactly.
    """
    if arch == SWIN:
        return _swin_features(state_dict, images)
    depth = resnet_depth(arch)
    stages = 3 if head == "c4" else 4
    backbone = ResNet(
        depth, num_stages=stages, strides=(1, 2, 2, 2)[:stages], dilations=(1,) * stages,
        out_indices=tuple(range(stages)), style="pytorch", frozen_stages=-1, norm_eval=False,
    )  # fmt: skip
    parts: dict[str, nn.Module] = {BACKBONE: backbone}
    if head == "c4":
        parts[SHARED_HEAD] = _last_stage(depth)
    _load_strictly(parts, state_dict)
    for part in parts.values():
        part.eval()  # mmdet's returns None
        part.to(images)
    features = list(backbone(images))
    if head == "c4":
        features.append(parts[SHARED_HEAD](features[-1]))
    return dict(zip(STAGES, features))


def resnet_depth(arch: str) -> int:
    """Return 50 for "resnet50".

    Raises:
        UserError: MMDetection's ResNet has no such depth.
    """
    match = re.fullmatch(r"resnet(\d+)", arch)
    if match is None or int(match[1]) not in ResNet.arch_settings:
        known = ", ".join(f"resnet{depth}" for depth in ResNet.arch_settings)
        raise UserError(f"architecture {arch}: MMDetection's ResNet cannot hold it; it takes {known}")
    return int(match[1])


def _swin_features(state_dict: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    network = SwinTransformer(out_indices=(3,))
    _load_strictly({BACKBONE: network}, state_dict)
    network.eval()
    network.to(images)

    def run() -> None:
        [features["norm"]] = network(images)

    def read(output: Any) -> Tensor:
        tokens, (height, width) = output[2:]
        channels_last: Tensor = tokens.unflatten(1, (height, width))
        return channels_last.permute(0, 3, 1, 2)

    features: dict[str, Tensor] = {}
    return {**recorded(dict(zip(STAGES, network.stages)), run, read), **features}


def _last_stage(depth: int) -> nn.Module:
    """Return stage 4 alone, its parameters named `layer4.*`."""
    block, blocks = ResNet.arch_settings[depth]
    layer = ResLayer(block, 256 * block.expansion, 512, blocks[3], stride=2, style="pytorch", norm_cfg={"type": "BN"})
    last_stage = nn.Sequential()
    last_stage.add_module("layer4", layer)
    return last_stage


def _load_strictly(parts: Mapping[str, nn.Module], state_dict: Mapping[str, Tensor]) -> None:
    """Load each part from the names under its prefix; what has no effect or is constant alone may be missing."""
    left_over = [name for name in state_dict if not name.startswith(tuple(parts))]
    for prefix, part in parts.items():
        weights = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
        try:
            wrong = part.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            raise UserError(f"converted weights: {' '.join(str(error).split())}") from error
        left_over += [prefix + name for name in wrong.unexpected_keys]
        left_over += [prefix + name for name in wrong.missing_keys if not name.endswith((COUNTER, *CONSTANTS))]
    if left_over:
        raise UserError(f"converted weights: left over or missing in MMDetection's network: {', '.join(left_over)}")
