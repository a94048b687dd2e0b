"""The last stage of a ResNet as the RoI head of a C4 detector, with a norm behind it."""

from __future__ import annotations

from typing import Any

from mmcv.cnn import build_norm_layer
from mmdet.models.roi_heads.shared_heads import ResLayer
from mmdet.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class ResLayerExtraNorm(ResLayer):
    """Stage 4 of a ResNet on every RoI, then one more norm: `Res5ROIHeadsExtraNorm` of MoCo's detection code.

    With the backbone's norms in training mode, the head's features would otherwise reach the box predictor without
    a norm after the last addition. Unlike Detectron2's own C4 head it takes the depth's own blocks, so ResNet-18 and
    34 work too. Parameters: `layer4.*`, as in torchvision, and `norm.*`, which no checkpoint brings along.

    Args:
        depth: 18, 34, 50, 101 or 152.
        norm_cfg: The norm, e.g. {"type": "SyncBN", "requires_grad": True}.
        norm_eval: Whether the norms keep to their running statistics in training.
        settings: See mmdet's ResLayer; the style must be "pytorch" for torchvision's and timm's weights.
    """

    def __init__(self, depth: int, norm_cfg: dict[str, Any], norm_eval: bool = False, **settings: Any) -> None:
        super().__init__(depth, norm_cfg=norm_cfg, norm_eval=norm_eval, **settings)
        last_norm = getattr(self.layer4[-1], "norm3" if depth >= 50 else "norm2")
        self.norm = build_norm_layer(norm_cfg, last_norm.num_features)[1]

    def forward(self, x: Tensor) -> Tensor:
        """Map RoI features (n, C, 14, 14) of stage 3 to (n, 2C, 7, 7)."""
        features: Tensor = self.norm(super().forward(x))
        return features
