"""The last stage of a ResNet or ResNeXt as the RoI head of a C4 detector, with a norm behind it."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import build_norm_layer
from mmdet.models import layers
from mmdet.models.backbones import ResNet, ResNeXt
from mmdet.models.roi_heads.shared_heads import ResLayer
from mmdet.registry import MODELS
from torch import Tensor

from pretrain.console import UserError


@MODELS.register_module()
class ResLayerExtraNorm(ResLayer):
    """Stage 4 of a ResNet on every RoI, then one more norm: `Res5ROIHeadsExtraNorm` of MoCo's detection code.

    With the backbone's norms in training mode, the head's features would otherwise reach the box predictor without
    a norm after the last addition. Unlike Detectron2's own C4 head it takes the depth's own blocks, so ResNet-18 and
    34 work too, and unlike MMDetection's own it takes the groups of a ResNeXt and fewer channels. Parameters:
    `layer4.*`, as in torchvision, and `norm.*`, which no checkpoint brings along.

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm_cfg: The norm, e.g. {"type": "SyncBN", "requires_grad": True}.
        norm_eval: Whether the norms keep to their running statistics in training.
        groups: Of the 3x3 convolutions, 1 in a ResNet; as in mmdet's ResNeXt.
        base_width: Channels of a group in the first stage; without effect in a ResNet.
        base_channels: Channels of the first stage's blocks, before a bottleneck's expansion; as in mmdet's ResNet.
        stage: 3, counted from 0: no other one can stand behind a C4 backbone.
        init_cfg: See mmdet's ResLayer.
        block: What a stage of mmdet takes: stride (default 2), dilation, style, with_cp, dcn; the style must be
            "pytorch" for torchvision's and timm's weights.

    Raises:
        UserError: There is no such ResNet or ResNeXt, or another stage is asked for.
    """

    def __init__(
        self,
        depth: int,
        norm_cfg: dict[str, Any],
        norm_eval: bool = False,
        groups: int = 1,
        base_width: int = 4,
        base_channels: int = 64,
        stage: int = 3,
        init_cfg: Any = None,
        **block: Any,
    ) -> None:
        family = ResNeXt if groups > 1 else ResNet
        if depth not in family.arch_settings:
            depths = ", ".join(str(known) for known in family.arch_settings)
            raise UserError(f"shared_head.depth is {depth}; with groups={groups} it is one of {depths}")
        if stage != 3:
            raise UserError(f"shared_head.stage is {stage}; it is 3, the last")
        super().__init__(depth, stage, norm_cfg=norm_cfg, norm_eval=norm_eval, init_cfg=init_cfg, **block)
        if groups > 1 or base_channels != 64:  # mmdet's ResLayer knows the blocks of a whole ResNet only
            kind, blocks = family.arch_settings[depth]
            grouped = {"groups": groups, "base_width": base_width, "base_channels": base_channels}
            block = {"stride": 2, **block, **(grouped if groups > 1 else {})}
            before, inside = 4 * base_channels * kind.expansion, 8 * base_channels
            self.layer4 = layers.ResLayer(kind, before, inside, blocks[stage], norm_cfg=norm_cfg, **block)
        last_norm = getattr(self.layer4[-1], "norm3" if depth >= 50 else "norm2")
        self.norm = build_norm_layer(norm_cfg, last_norm.num_features)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Map RoI features (n, C, 14, 14) of stage 3 to (n, 2C, 7, 7)."""
        features: Tensor = self.norm(super().forward(x))
        return features
