"""What Detectron2 computes from converted weights, stage by stage, for the proof of parity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from detectron2.modeling import build_model
from torch import Tensor, nn

from pretrain.backbones import BackboneCard
from transfer.d2.config import backbone_config
from transfer.stages import STAGES
from transfer.weights import load_exact


@torch.no_grad()
def stage_features(
    state_dict: Mapping[str, Tensor], card: BackboneCard, images: Tensor, head: str = "c4"
) -> dict[str, Tensor]:
    """Run a Detectron2 detector's backbone, and its res5 head where it has one, on normalised images.

    Args:
        state_dict: Weights under Detectron2's exact names.
        card: Of the converted weights, from which the config takes architecture and stride style.
        images: (N, 3, H, W) float32 or float64, as which the network is run; normalised; H and W multiples of 32.
        head: "c4" or "fpn".

    Returns:
        {"stem", "layer1", ..., "layer4": (N, C, h, w)}: res2 to res5. For "c4", res5 is the RoI head's res5 applied to
        the whole map of res4. For a Swin transformer also "norm", behind the last stage.
    """
    with torch.random.fork_rng(devices=[]):
        model = build_model(backbone_config(card, head)).eval()
    load_exact(model, state_dict, "detectron2")
    model.to(images.dtype)
    network: Any = model.backbone.bottom_up if head == "fpn" else model.backbone
    if hasattr(network, "patch_embed"):
        from transfer.d2.swin import swin_features

        return swin_features(network, images)
    below = network.stem(images)
    features = {"stem": below}
    for stage, block in zip(STAGES, ("res2", "res3", "res4", "res5")):
        if head == "fpn" or block != "res5":
            part = getattr(network, block)
        else:
            part = nn.Sequential(*[part for name, part in model.roi_heads.res5.named_children() if name != "norm"])
        below = features[stage] = part(below)
    return features


@torch.no_grad()
def network_input(card: BackboneCard, images: Tensor) -> Tensor:
    """Return what Detectron2 feeds its backbone for raw RGB pictures, under the config that the card writes.

    Args:
        card: Of the converted weights.
        images: (N, 3, H, W) float32 in [0, 255], RGB; H and W multiples of 32.
    """
    cfg = backbone_config(replace(card, arch="resnet18"), "c4")  # the smallest: a detector of any kind prepares alike
    if cfg.INPUT.FORMAT == "BGR":  # the data set mapper would have read the file so
        images = images.flip(1)
    with torch.random.fork_rng(devices=[]):
        model = build_model(cfg)
    return model.preprocess_image([{"image": image} for image in images]).tensor
