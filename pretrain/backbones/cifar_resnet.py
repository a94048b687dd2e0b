"""ResNets for images of 32 and 64 pixels: a 3x3 stem of stride 1 and no pooling (He et al., Section 4.2).

The paper uses ResNet-18, ResNeXt-50 and WRN-28-8 in this form on CIFAR and Tiny-ImageNet (Table 1, appendix A.1). timm
has the blocks, not the networks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.layers import BatchNormAct2d, create_conv2d
from timm.models.resnet import BasicBlock, Bottleneck, make_blocks
from timm.models.resnetv2 import DownsampleConv, PreActBasic
from torch import Tensor, nn


class CifarNetwork(nn.Module):
    """A network in timm's form, so that stages, head and features are reached as in timm's networks.

    A subclass fills in the attributes and the layers before the first stage.

    Attributes:
        stages: Names of the modules that are the stages, in order.
        feature_info: Channels, stride ("reduction") and module of each stage's feature map.
        num_classes: Width K of the classification head.
        num_features: Channels C of the last feature map.
        fc: The classification head.
    """

    stages: list[str]
    feature_info: list[dict[str, Any]]
    num_classes: int
    num_features: int
    fc: nn.Linear

    def stem(self, images: Tensor) -> Tensor:
        """Return what the first stage gets of images (N, 3, H, W), at their resolution."""
        raise NotImplementedError

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Return what parameters belong together, by patterns of their names: a stage's, or else a block's."""
        return {"stem": "^(conv1|bn1)", "blocks": r"^layer(\d+)" if coarse else r"^layer(\d+)\.(\d+)"}

    def get_classifier(self) -> nn.Module:
        """Return the classification head."""
        return self.fc

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the last stage's feature map (N, C, h, w) of images (N, 3, H, W)."""
        features = self.stem(images)
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
        features, taken = self.stem(images), []
        for i, name in enumerate(self.stages[: max(indices) + 1] if stop_early else self.stages):
            features = getattr(self, name)(features)
            if i in indices:
                taken.append(features)
        return taken if intermediates_only else (features, taken)

    def init_convolutions(self) -> None:
        """Draw the convolutions' weights as He et al. (2015) do, by the fan-out."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class CifarResNet(CifarNetwork):
    """A ResNet or ResNeXt.

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
        self.init_convolutions()
        for module in self.modules():
            if isinstance(module, BasicBlock | Bottleneck):
                module.zero_init_last()

    def stem(self, images: Tensor) -> Tensor:
        """See `CifarNetwork`."""
        return self.act1(self.bn1(self.conv1(images)))


class CifarWideResNet(CifarNetwork):
    """A Wide ResNet: three stages of pre-activation blocks, no dropout (Zagoruyko and Komodakis 2016, Table 1).

    A block ends in a sum that no norm or ReLU follows, and such sums are the feature maps of the first two stages. The
    final batch norm and ReLU are part of the last stage: its map is what the head averages, as in the other networks
    here, and what the authors' code takes as the last map too.

    Args:
        depth: Layers of convolution, 6 n + 4 for n blocks a stage.
        width: Factor k of the stages' channels, 16 k, 32 k and 64 k; their strides are 1, 2 and 2.
        num_classes: Width K of the classification head.
        drop_path_rate: Of the last block; it grows linearly from 0.
    """

    def __init__(self, depth: int, width: int, num_classes: int, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        blocks, channels = (depth - 4) // 6, 16
        rates = torch.linspace(0, drop_path_rate, 3 * blocks, device="cpu").tolist()
        block = partial(PreActBasic, conv_layer=create_conv2d, norm_layer=BatchNormAct2d, proj_layer=DownsampleConv)
        self.num_classes = num_classes
        self.conv1 = nn.Conv2d(3, channels, kernel_size=3, padding=1, bias=False)
        self.stages, self.feature_info = [], []
        for number, (factor, stride) in enumerate(((1, 1), (2, 2), (4, 2)), start=1):
            stage, name = nn.Sequential(), f"layer{number}"
            for i in range(blocks):
                step, rate = stride if i == 0 else 1, rates[(number - 1) * blocks + i]
                stage.append(block(channels, 16 * factor * width, stride=step, drop_path_rate=rate))
                channels = 16 * factor * width
            self.add_module(name, stage)
            self.stages.append(name)
            self.feature_info.append({"num_chs": channels, "reduction": factor, "module": name})
        stage.append(BatchNormAct2d(channels))
        self.num_features = channels
        self.fc = nn.Linear(channels, num_classes)
        self.init_convolutions()

    def stem(self, images: Tensor) -> Tensor:
        """See `CifarNetwork`."""
        return self.conv1(images)


CIFAR_RESNETS: dict[str, Callable[..., CifarNetwork]] = {
    "cifar_resnet18": partial(CifarResNet, BasicBlock, (2, 2, 2, 2), (64, 128, 256, 512)),
    "cifar_resnet20": partial(CifarResNet, BasicBlock, (3, 3, 3), (16, 32, 64)),
    "cifar_resnext50_32x4d": partial(
        CifarResNet, Bottleneck, (3, 4, 6, 3), (64, 128, 256, 512), cardinality=32, base_width=4
    ),
    "cifar_wrn28_8": partial(CifarWideResNet, 28, 8),
}
