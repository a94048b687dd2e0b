"""The architectures that are carried to a detector, by their names, and what a detector has to know of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torchvision

from pretrain.backbones import build_backbone

COUNTER = "num_batches_tracked"  # a BatchNorm's counter: no effect on what the network computes
CONSTANTS = ("relative_position_index", "attn_mask")  # what a Swin transformer keeps though it follows from its shape


@dataclass(frozen=True)
class ResNetShape:
    """A plain ResNet or ResNeXt.

    Attributes:
        depth: Number of layers, 18 to 152; from 50 on the blocks are bottlenecks.
        groups: Groups of the 3x3 convolutions, 1 in a ResNet.
        width_per_group: Channels of a group in the first stage.
        base_channels: Channels of the first stage's blocks, before a bottleneck's expansion; the stem always has 64.
    """

    depth: int
    groups: int = 1
    width_per_group: int = 64
    base_channels: int = 64

    @property
    def bottleneck(self) -> bool:
        """Whether the blocks are bottlenecks."""
        return self.depth >= 50

    @property
    def stage1_channels(self) -> int:
        """Channels of the first stage's output; each later stage has twice as many."""
        return self.base_channels * (4 if self.bottleneck else 1)


RESNETS = {
    "resnet18": ResNetShape(18),
    "resnet34": ResNetShape(34),
    "resnet50": ResNetShape(50),
    "resnet101": ResNetShape(101),
    "resnet152": ResNetShape(152),
    "resnext50_32x4d": ResNetShape(50, 32, 4),
    "resnext101_32x4d": ResNetShape(101, 32, 4),
    "resnext101_32x8d": ResNetShape(101, 32, 8),
    "resnext101_64x4d": ResNetShape(101, 64, 4),
    "slim_resnet18": ResNetShape(18, base_channels=32),
}
SWIN = "swin_tiny_patch4_window7_224"
ARCHITECTURES = (*RESNETS, SWIN)


@cache
def expected_shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """Return {torchvision name: shape} without the classifier and without constants; nothing is allocated."""
    with torch.device("meta"):
        if arch == SWIN:
            model = torchvision.models.swin_t()
            model.head = torch.nn.Identity()
        else:  # these are built of timm's ResNet, which has torchvision's names
            model = build_backbone(arch, 0)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return {name: shape for name, shape in shapes.items() if not name.endswith(CONSTANTS)}
