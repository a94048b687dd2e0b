"""ResNets of fewer channels, for studies on a small machine; otherwise timm's, with the ImageNet stem."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from timm.models.resnet import BasicBlock, ResNet

_RESNET: Callable[..., ResNet] = ResNet  # timm annotates the kind of block as a block

SLIM_RESNETS: dict[str, Callable[..., ResNet]] = {
    # ResNet-18 with half its channels behind a stem of 64: 2.8 million parameters, a quarter of its operations
    "slim_resnet18": partial(_RESNET, BasicBlock, (2, 2, 2, 2), channels=(32, 64, 128, 256)),
}
