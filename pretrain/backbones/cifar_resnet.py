"""ResNets for images of 32 and 64 pixels: a 3x3 stem of stride 1 and no pooling (He et al., Section 4.2).

The paper uses ResNet-18 and ResNeXt-50 in this form on CIFAR and Tiny-ImageNet (appendix A.1). timm has the blocks, not
the networks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from timm.models.resnet import BasicBlock, Bottleneck, make_blocks
from torch import Tensor, nn


class CifarResNet(nn.Module):
    """A ResNet or ResNeXt in timm's form, so that stages, head and features are reached as in timm's networks.

    Args:
        block: timm's `BasicBlock` or `Bottleneck`.
        depths: Blocks of each stage; the first stage keeps the image's resolution, each further one halves it.
        widths: Channels of each stage, before the block's expansion.
        num_classes: Width K of the classification head.
        cardinality, base_width: Groups of the 3x3 convolution and their width, as in ResNeXt (32x4d).
        drop_path_rate: Of the last block; it grows linearly from 0.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, ...],
        widths: tuple[int, ...],
        num_classes: int,
        cardinality: int = 1,
        base_width: int = 64,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.conv1 = nn.Conv2d(3, widths[0], kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.act1 = nn.ReLU(inplace=True)
        stages, info = make_blocks(
            (block,) * len(depths),
            widths,
            depths,
            inplanes=widths[0],
            cardinality=cardinality,
            base_width=base_width,
            drop_path_rate=drop_path_rate,
            act_layer=nn.ReLU,
            norm_layer=nn.BatchNorm2d,
        )
        self.stages = [name for name, _ in stages]
        for name, stage in stages:
            self.add_module(name, stage)
        self.feature_info = [{**entry, "reduction": entry["reduction"] // 4} for entry in info]
        self.num_features = info[-1]["num_chs"]
        self.fc = nn.Linear(self.num_features, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, BasicBlock | Bottleneck):
                module.zero_init_last()

    def get_classifier(self) -> nn.Module:
        """Return the classification head."""
        return self.fc

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last stage's feature map (N, C, h, w) of images (N, 3, H, W)."""
        features = self.act1(self.bn1(self.conv1(images)))
        for name in self.stages:
            features = getattr(self, name)(features)
        return features

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Return logits (N, K), or what the head sees, (N, C)."""
        pooled = features.mean(dim=(2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, 3, H, W)."""
        return self.forward_head(self.forward_features(images))

    def forward_intermediates(
        self,
        images: Tensor,
        indices: list[int],
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Return feature maps after the stages `indices`, from 0, as timm's networks do."""
        features, taken = self.act1(self.bn1(self.conv1(images))), []
        for i, name in enumerate(self.stages[: max(indices) + 1] if stop_early else self.stages):
            features = getattr(self, name)(features)
            if i in indices:
                taken.append(features)
        return taken if intermediates_only else (features, taken)


CIFAR_RESNETS: dict[str, Callable[..., CifarResNet]] = {
    "cifar_resnet18": partial(CifarResNet, BasicBlock, (2, 2, 2, 2), (64, 128, 256, 512)),
    "cifar_resnet20": partial(CifarResNet, BasicBlock, (3, 3, 3), (16, 32, 64)),
    "cifar_resnext50_32x4d": partial(
        CifarResNet, Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), cardinality=32, base_width=4
    ),
}
