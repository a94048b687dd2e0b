"""The proof: the same picture through the source network and through the framework's, compared stage by stage.

The bar is equality to the last bit on the CPU: both sides run the same operations on the same numbers, so any
difference, however small, is a wrong stride, a wrong eps, a wrong channel order or a tensor that was not loaded.
The source network is built in the library whose names the source has and filled by these names, so that no name map
of this toolkit lies between the file and what is compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from transfer.architectures import SWIN
from transfer.convert import Converted
from transfer.files import read_converted
from transfer.layouts import Source, read_source
from transfer.networks import network_input, stage_features
from transfer.stages import STAGES

# OpenMMLab's Swin transformers merge patches in another order than all others, so that no sum of theirs can be equal to
# the last bit. There both sides run in float64, whose rounding is 1e-16, and may differ by this.
ORDER_ONLY = 1e-10


@dataclass(frozen=True)
class Verification:
    """The outcome of the comparison.

    Attributes:
        max_abs_diff: {"layer1", ..., "layer4": largest absolute difference}; infinite where the shapes differ. Where
            both sides compute them also "stem", and "norm" behind the last stage of a Swin transformer; for a detector
            also "input", the picture after the framework's own preprocessing.
        passed: Whether every one of them is at most `tolerance`.
        tolerance: 0, to the last bit; ORDER_ONLY where the two sides sum in another order by design.
    """

    max_abs_diff: dict[str, float]
    passed: bool
    tolerance: float = 0.0


@torch.no_grad()
def verify(
    source: str | Path | Mapping[str, Any] | Source,
    converted: Converted | str | Path,
    target: str = "detectron2",
    images: Tensor | None = None,
    branch: str | None = None,
    trust: bool = False,
) -> Verification:
    """Compare what the source network and the target framework compute, at every stage.

    Args:
        source: What was converted.
        converted: The result, or the path of the converted file.
        target: "detectron2", "mmdet", "torchvision" or "timm".
        images: (N, 3, H, W) RGB in [0, 255], H and W multiples of 32, for Swin transformers of 224; a fixed test
            picture where it is None.
        branch: The branch that was converted, where the source holds two.
        trust: Whether code that the source carries may run.

    Raises:
        UserError: The framework is not installed, or the converted tensors do not fill its network.
    """
    if not isinstance(converted, Converted):
        converted = read_converted(converted, target)
    if converted.target != target:
        raise UserError(f"the weights were converted for {converted.target}, not for {target}")
    original = source if isinstance(source, Source) else read_source(source, branch=branch, trust=trust)
    raw = fixed_picture(original.card.arch) if images is None else images.float()
    prepared = normalise(raw, original.card)
    frameworks = {original.network.framework, target}
    reordered = original.card.arch == SWIN and "mmdet" in frameworks and len(frameworks) > 1
    if reordered:
        prepared = prepared.double()
    wanted = stage_features(original.network.framework, original.card, original.own_weights(), prepared)
    found = stage_features(target, converted.card, converted.state_dict, prepared, converted.head)
    required = [*STAGES]
    if target in ("detectron2", "mmdet"):
        wanted = {"input": prepared, **wanted}
        found["input"] = network_input(target, converted.card, raw).to(prepared.dtype)
        required.append("input")
    differences = {stage: _difference(wanted[stage], found[stage]) for stage in wanted if stage in found}
    complete = set(required) <= set(differences)
    tolerance = ORDER_ONLY if reordered else 0.0
    return Verification(differences, complete and max(differences.values()) <= tolerance, tolerance)


def fixed_picture(arch: str = "") -> Tensor:
    """Return a fixed picture (1, 3, H, W) in [0, 255], whole numbers: a colour ramp under noise.

    96 x 128 pixels; 448 x 448 for a Swin transformer, the smallest at which all libraries mean the same: windows of 7
    have to fill every stage, since timm pads after it shifts and the others before, and a stage of one window has to be
    avoided, since Detectron2 and MMDetection shift there and the others do not.
    """
    height, width = (448, 448) if arch == SWIN else (96, 128)
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


def _difference(wanted: Tensor, found: Tensor) -> float:
    if wanted.shape != found.shape:
        return math.inf
    difference = (wanted - found).abs().max().item()
    return math.inf if math.isnan(difference) else difference
