"""Networks with nothing at its initial value, for tests that compare what two frameworks compute."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn


def randomised(arch: str, seed: int = 0) -> dict[str, Tensor]:
    """Return the state dict of timm's network with random weights and random BatchNorm statistics.

    At its initial values a BatchNorm is the identity, and a residual branch may end in a zero: a lost or exchanged
    tensor would then go unnoticed.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = timm.create_model(arch, num_classes=10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_mean, -0.5)):
                tensor.data = torch.rand(tensor.shape, generator=generator) + low
            module.running_var = torch.rand(module.running_var.shape, generator=generator) + 0.5
            module.num_batches_tracked += 7
    return model.state_dict()
