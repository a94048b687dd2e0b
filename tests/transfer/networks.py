"""Networks with nothing at its initial value, for tests that compare what two frameworks compute."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from pretrain.backbones import build_backbone
from transfer.architectures import SWIN
from transfer.names import classifier_names, framework_names


def randomised(arch: str, seed: int = 0) -> dict[str, Tensor]:
    """Return the state dict of torchvision's names with random weights and random BatchNorm statistics.

    At its initial values a BatchNorm is the identity, and a residual branch may end in a zero: a lost or exchanged
    tensor would then go unnoticed.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = torchvision.models.swin_t(num_classes=10) if arch == SWIN else build_backbone(arch, 10)
    if arch == SWIN:
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_mean, -0.5)):
                tensor.data = torch.rand(tensor.shape, generator=generator) + low
            module.running_var = torch.rand(module.running_var.shape, generator=generator) + 0.5
            module.num_batches_tracked += 7
    return model.state_dict()


def skeleton(arch: str) -> dict[str, Tensor]:
    """Return tensors of an architecture's own names and shapes, all zero, which need no memory."""
    with torch.device("meta"):
        model = build_backbone(arch, 1000)
    return {name: torch.zeros(()).expand(tensor.shape) for name, tensor in model.state_dict().items()}


def swin_of(framework: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a Swin-T of torchvision's names under those of timm, of the authors, or of Detectron2."""
    names = {**framework_names(SWIN, framework), **classifier_names(SWIN, framework)}
    return {names[name]: tensor for name, tensor in weights.items() if name in names}
