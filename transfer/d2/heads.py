"""RoI heads that Detectron2 lacks: the last stage of a ResNet of any depth, followed by a norm."""

from __future__ import annotations

from typing import Any

from detectron2.layers import get_norm
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock, ResNet
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads
from torch import nn

BLOCKS_IN_RES5 = {18: 2, 34: 3, 50: 3, 101: 3, 152: 3}


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeadsExtraNorm(Res5ROIHeads):
    """The C4 head of MoCo's detection protocol: res5, then a norm (MoCo, detection/train_net.py).

    The norm has no counterpart in the pretrained network and starts fresh; it tames the scale of features that were
    not trained with frozen statistics. Unlike Detectron2's own head this one builds BasicBlocks for ResNet-18 and
    ResNet-34, whose weights a Bottleneck head could not take.
    """

    @classmethod
    def _build_res5_block(cls, cfg: Any) -> tuple[nn.Sequential, int]:
        blocks, channels = res5_blocks(cfg)
        blocks.add_module("norm", get_norm(cfg.MODEL.RESNETS.NORM, channels))
        return blocks, channels


def res5_blocks(cfg: Any) -> tuple[nn.Sequential, int]:
    """Return the blocks of res5, which map RoI features (R, C/2, h, w) to (R, C, h/2, w/2), and C."""
    resnets = cfg.MODEL.RESNETS
    channels = 8 * resnets.RES2_OUT_CHANNELS
    number = BLOCKS_IN_RES5[resnets.DEPTH]
    settings: dict[str, Any] = {
        "stride_per_block": [2] + [1] * (number - 1),
        "in_channels": channels // 2,
        "out_channels": channels,
        "norm": resnets.NORM,
    }
    if resnets.DEPTH < 50:
        return nn.Sequential(*ResNet.make_stage(BasicBlock, number, **settings)), channels
    blocks = ResNet.make_stage(
        BottleneckBlock,
        number,
        bottleneck_channels=8 * resnets.NUM_GROUPS * resnets.WIDTH_PER_GROUP,
        num_groups=resnets.NUM_GROUPS,
        stride_in_1x1=resnets.STRIDE_IN_1X1,
        **settings,
    )
    return nn.Sequential(*blocks), channels
