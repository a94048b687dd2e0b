"""Swin-T as the backbone of a Detectron2 detector. Detectron2 has it since 2022, after v0.6."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from torch import Tensor, nn

from pretrain.console import UserError
from transfer.stages import STAGES, recorded


def build_swin() -> Any:
    """Return Detectron2's Swin-T, random, in training mode.

    Raises:
        UserError: This Detectron2 has none.
    """
    try:
        from detectron2.modeling.backbone.swin import SwinTransformer
    except ModuleNotFoundError as error:
        raise UserError(
            "this Detectron2 is v0.6, which has no Swin transformer; install a later one (docs/detectron2.md, section "
            "Versions), or convert with --no-verify"
        ) from error
    return SwinTransformer()


@BACKBONE_REGISTRY.register()
def build_swin_t_fpn_backbone(cfg: Any, input_shape: Any) -> FPN:
    """Build Swin-T with a feature pyramid: p2 to p6 from the four stages, whose names in Detectron2 are p0 to p3."""
    return FPN(
        bottom_up=build_swin(),
        in_features=["p0", "p1", "p2", "p3"],
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


@torch.no_grad()
def swin_features(network: Any, images: Tensor) -> dict[str, Tensor]:
    """Return what Detectron2's Swin computes after its patches, its stages (before their norms), and the last norm.

    Args:
        network: Of `build_swin`, in eval mode.
        images: (N, 3, H, W) float32, normalised; H and W multiples of 32.

    Returns:
        {"stem", "layer1", ..., "layer4", "norm": (N, C, h, w)}.
    """
    modules: dict[str, nn.Module] = dict(zip(STAGES, network.layers))

    def run() -> None:
        features["stem"] = network.patch_embed(images)
        features["norm"] = network(images)["p3"]

    def read(output: Any) -> Tensor:
        tokens, height, width = output[:3]
        return tokens.unflatten(1, (height, width)).permute(0, 3, 1, 2)

    features: dict[str, Tensor] = {}
    stages = recorded(modules, run, read)
    return {"stem": features["stem"], **stages, "norm": features["norm"]}
