"""FSDP2: parameters, gradients and optimizer state in shards, one a process, for networks that are large for a device.

The networks that a method trains and averages are sharded block by block; what is small beside them, such as the Mix
Block, stays whole on every process, and so do buffers. A sharded parameter is a DTensor, which knows its whole shape.
Everything here leaves a method that is not sharded as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn
from torch.torch_version import TorchVersion

from pretrain.automix import AutoMix
from pretrain.automix.heads import TwoHeads, pre_logits
from pretrain.automix.momentum import own_part
from pretrain.console import UserError
from pretrain.training.methods import Classification
from pretrain.training.settings import Settings

OLDEST_TORCH = "2.8"  # before it, a network stays whole behind a forward pass, whatever it is told
OPTIMIZERS = ("momentum", "sgd", "adam", "adamw", "lamb")  # whose sharded steps and states are tested


def require_shardable(settings: Settings, processes: int) -> None:
    """Raise a UserError if the run is to be sharded and cannot be."""
    if settings.run.sharding == "none":
        return
    if processes == 1:
        problem = "needs two processes or more, each with a GPU: tools/pretrain.sh CONFIG GPUS"
    elif TorchVersion(torch.__version__) < OLDEST_TORCH:
        problem = f"needs torch {OLDEST_TORCH} or newer, this is {torch.__version__}: install it"
    elif settings.optim.name not in OPTIMIZERS:
        problem = (
            f"was tested with optim.name {', '.join(OPTIMIZERS)}, not with {settings.optim.name}: take one of them"
        )
    else:
        return
    raise UserError(f"run.sharding=fsdp {problem}, or set run.sharding=none")


def shard(method: AutoMix | Classification, fabric: Fabric) -> None:
    """Give every process the first one's weights, then shard the networks; optimizers come after that.

    Args:
        method: On the device of `fabric`, whole; its `encoders` are sharded.
        fabric: Launched, with two processes or more.

    Raises:
        UserError: timm does not say what the blocks of a network are.
    """
    from torch.distributed.device_mesh import init_device_mesh  # here, since older versions of torch lack some of it
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for tensor in method.state_dict().values():
        distributed.broadcast(tensor, 0)
    mesh = init_device_mesh(fabric.device.type, (fabric.world_size,))
    # A teacher that stayed whole behind a pass without gradient would move as that copy, and its shard would not.
    options: dict[str, Any] = {"mesh": mesh, "reshard_after_forward": True}
    for network in method.encoders().values():
        for block in blocks_of(network):
            fully_shard(block, **options)
        fully_shard(network, **options)
        register_fsdp_forward_method(network, "forward_intermediates")
    for module in method.modules():
        if isinstance(module, TwoHeads):  # FSDP has to know of the way round the network's own head
            two_heads: Any = module
            two_heads.network.pre_logits = MethodType(_pre_logits, two_heads.network)
            register_fsdp_forward_method(two_heads.network, "pre_logits")
            two_heads.pre_logits = two_heads.network.pre_logits
            fully_shard(two_heads.mixed_head, **options)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """Return the residual or transformer blocks of a network, by what timm calls a block (`group_matcher`).

    Raises:
        UserError: timm has no pattern of their names.
    """
    classifier: Any = network
    matcher = classifier.group_matcher(coarse=False)
    patterns = matcher.get("blocks", []) if isinstance(matcher, dict) else []
    patterns = [patterns] if isinstance(patterns, str) else [entry[0] for entry in patterns]
    numbered = [pattern for pattern in patterns if r"(\d+)" in pattern]  # others are a norm or a convolution
    named = [(name, module) for name, module in network.named_modules() if [*module.parameters()]]
    found = [module for name, module in named if any(re.fullmatch(pattern, name) for pattern in numbered)]
    if not found:
        name = getattr(network, "default_cfg", {}).get("architecture", type(network).__name__)
        raise UserError(f"run.sharding=fsdp: timm does not say what a block of '{name}' is; set run.sharding=none")
    return found


def _pre_logits(network: nn.Module, images: Tensor) -> Tensor:
    return pre_logits(network, images).clone()  # FSDP warns of views


@contextmanager
def gathered(method: nn.Module) -> Iterator[None]:
    """Keep the sharded networks whole on every process, for passes that not every process makes, as in evaluation."""
    units: list[Any] = [module for module in method.modules() if hasattr(module, "set_reshard_after_forward")]
    for unit in units:
        unit.unshard()
        unit.set_reshard_after_forward(False, recurse=False)
        unit.set_reshard_after_backward(False, recurse=False)  # saliency, which some methods mix by, makes such a pass
    try:
        yield
    finally:
        for unit in units:
            unit.set_reshard_after_forward(True, recurse=False)
            unit.set_reshard_after_backward(True, recurse=False)
            unit.reshard()


def is_sharded(value: object) -> bool:
    """Return whether a tensor is in shards; it has the methods of a DTensor then."""
    return hasattr(value, "full_tensor")


@torch.no_grad()
def clip_norm(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Scale gradients, in shards and whole ones, down to a norm of all together; return the norm before, a scalar."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    whole = [gradient for gradient in gradients if not is_sharded(gradient)]
    shards = [own_part(gradient) for gradient in gradients if is_sharded(gradient)]
    square = _square_of(shards)
    distributed.all_reduce(square)
    norm = (square + _square_of(whole)).sqrt() if whole else square.sqrt()
    torch._foreach_mul_([*shards, *whole], (max_norm / (norm + 1e-6)).clamp(max=1))  # as torch's clip_grad_norm_
    return norm


def _square_of(tensors: list[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors)).square().sum()
