"""What Detectron2 computes from converted weights, stage by stage, for the proof of parity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from detectron2.modeling import build_model
from torch import Tensor, nn

from pretrain.backbones import BackboneCard
from transfer.d2.config import backbone_config
from transfer.d2.weights import load_exact


@torch.no_grad()
def stage_features(
    state_dict: Mapping[str, Tensor], arch: str, images: Tensor, head: str = "c4", card: BackboneCard | None = None
) -> dict[str, Tensor]:
    """Run a Detectron2 detector's backbone, and its res5 head where it has one, on normalised images.

    Args:
        state_dict: Weights under Detectron2's exact names.
        arch: "resnet18", ...
        images: (N, 3, H, W) float32, normalised; H and W multiples of 32.
        head: "c4" or "fpn".
        card: Of the converted weights, from which the config takes the stride style; the usual one where it is None.

    Returns:
        {"stem", "res2", "res3", "res4", "res5": (N, C, h, w)}. For "c4", res5 is the RoI head's res5 applied to the
        whole map of res4.
    """
    model = build_model(backbone_config(card or BackboneCard(arch=arch, classes=()), head)).eval()
    load_exact(model, state_dict)
    network: Any = model.backbone.bottom_up if head == "fpn" else model.backbone
    features = {"stem": network.stem(images)}
    below = features["stem"]
    for stage in ("res2", "res3", "res4", "res5"):
        if head == "fpn" or stage != "res5":
            block = getattr(network, stage)
        else:
            block = nn.Sequential(*[part for name, part in model.roi_heads.res5.named_children() if name != "norm"])
        below = features[stage] = block(below)
    return features


@torch.no_grad()
def network_input(card: BackboneCard, images: Tensor) -> Tensor:
    """Return what Detectron2 feeds its backbone for raw RGB pictures, under the config that the card writes.

    Args:
        card: Of the converted weights.
        images: (N, 3, H, W) float32 in [0, 255], RGB; H and W multiples of 32.
    """
    cfg = backbone_config(card, "c4")
    model = build_model(cfg)
    if cfg.INPUT.FORMAT == "BGR":  # the data set mapper would have read the file so
        images = images.flip(1)
    return model.preprocess_image([{"image": image} for image in images]).tensor
