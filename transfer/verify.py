"""The proof: the same picture through the source network and through the framework's, compared stage by stage.

The bar is equality to the last bit on the CPU: both sides run the same operations on the same numbers, so any
difference, however small, is a wrong stride, a wrong eps, a wrong channel order or a tensor that was not loaded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor

from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from transfer.convert import Converted, read_converted
from transfer.layouts import HEAD, read_source

STAGES = ("layer1", "layer2", "layer3", "layer4")
CANONICAL = {"res2": "layer1", "res3": "layer2", "res4": "layer3", "res5": "layer4"}


@dataclass(frozen=True)
class Verification:
    """The outcome of the comparison.

    Attributes:
        max_abs_diff: {"layer1", ..., "layer4": largest absolute difference}; infinite where the shapes differ. For
            Detectron2 also "stem" and "input", the picture after the framework's own preprocessing.
        passed: Whether every one of them is exactly 0.
    """

    max_abs_diff: dict[str, float]
    passed: bool


@torch.no_grad()
def verify(
    source: str | Path | Mapping[str, Any],
    converted: Converted | str | Path,
    target: str = "detectron2",
    images: Tensor | None = None,
    branch: str | None = None,
) -> Verification:
    """Compare what the source network and the target framework compute, at every stage.

    Args:
        source: What was converted.
        converted: The result, or the path of OUT.pth.
        target: "detectron2", "mmdet", "torchvision" or "timm".
        images: (N, 3, H, W) RGB in [0, 255], H and W multiples of 32; a fixed test picture where it is None.
        branch: The branch that was converted, where the source holds two.

    Raises:
        UserError: The framework is not installed, or the converted tensors do not fill its network.
    """
    if not isinstance(converted, Converted):
        converted = read_converted(converted, target)
    if converted.target != target:
        raise UserError(f"the weights were converted for {converted.target}, not for {target}")
    original = read_source(source, branch=branch)
    raw = fixed_picture() if images is None else images.float()
    prepared = normalise(raw, original.card)
    model = timm.create_model(original.card.arch, num_classes=0).eval()
    model.load_state_dict(
        {name: tensor for name, tensor in original.weights.items() if not name.startswith(HEAD)}, strict=False
    )
    wanted = {"input": prepared, **resnet_stages(model, prepared)}
    found = _framework_features(converted, prepared)
    required = [*STAGES]
    if target == "detectron2":
        from transfer.d2.features import network_input

        found["input"] = network_input(converted.card, raw)
        required.append("input")
    differences = {stage: _difference(wanted[stage], found[stage]) for stage in wanted if stage in found}
    complete = set(required) <= set(differences)
    return Verification(differences, complete and all(value == 0 for value in differences.values()))


def fixed_picture(height: int = 96, width: int = 128) -> Tensor:
    """Return a fixed picture (1, 3, height, width) in [0, 255], whole numbers: a colour ramp under noise."""
    noise = torch.randint(0, 128, (1, 3, height, width), generator=torch.Generator().manual_seed(0))
    ramp = torch.arange(width).mul(127).div(width, rounding_mode="floor")
    slopes = torch.stack([ramp, ramp.flip(0), torch.full_like(ramp, 90)])
    return (noise + slopes[None, :, None, :]).float()


def normalise(images: Tensor, card: BackboneCard) -> Tensor:
    """Apply the card's preprocessing to RGB pictures in [0, 255].

    The card's constants belong to [0, 1]; both are scaled by 255, as the detectors do it: dividing the picture
    instead is the same but for the last bit.
    """
    if card.channel_order == "BGR":
        images = images.flip(1)
    mean = torch.tensor([round(255 * value, 6) for value in card.mean]).view(3, 1, 1)
    std = torch.tensor([round(255 * value, 6) for value in card.std]).view(3, 1, 1)
    return (images - mean) / std


def resnet_stages(model: Any, images: Tensor) -> dict[str, Tensor]:
    """Return {"stem", "layer1", ..., "layer4": (N, C, h, w)} of a timm or torchvision ResNet."""
    activation = model.act1 if hasattr(model, "act1") else model.relu
    below = model.maxpool(activation(model.bn1(model.conv1(images))))
    features = {"stem": below}
    for stage in STAGES:
        below = features[stage] = getattr(model, stage)(below)
    return features


def _framework_features(converted: Converted, images: Tensor) -> dict[str, Tensor]:
    """Return the target's stages under canonical names; the frameworks are imported only here."""
    arch, weights = converted.card.arch, converted.state_dict
    if converted.target in ("torchvision", "timm"):
        build = torchvision.models.get_model if converted.target == "torchvision" else timm.create_model
        classes = weights["fc.weight"].shape[0] if "fc.weight" in weights else 1000
        model = build(arch, num_classes=classes).eval()
        keys = model.load_state_dict(weights, strict=False)
        missing = [name for name in keys.missing_keys if not name.startswith(HEAD)]
        if missing or keys.unexpected_keys:
            raise UserError(f"{converted.target} {arch}: no exact fit: {', '.join([*missing, *keys.unexpected_keys])}")
        return resnet_stages(model, images)
    if converted.target == "mmdet":
        from transfer.mmdet.features import stage_features as mmdet_features

        features = mmdet_features(weights, arch, images, converted.head)
    else:
        from transfer.d2.features import stage_features as detectron2_features

        features = detectron2_features(weights, arch, images, converted.head, converted.card)
    return {CANONICAL.get(stage, stage): tensor for stage, tensor in features.items()}


def _difference(wanted: Tensor, found: Tensor) -> float:
    if wanted.shape != found.shape:
        return math.inf
    difference = (wanted - found).abs().max().item()
    return math.inf if math.isnan(difference) else difference
