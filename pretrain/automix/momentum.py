"""The momentum encoder: the teacher that the Mix Block learns from (Section 3.2, Eq. 12)."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class MomentumEncoder(nn.Module):
    """A copy of a network that follows it by an exponential moving average and asks for no gradient.

    Args:
        student: The network to copy and to follow.
        own_statistics: Whether the running statistics of batch norms come from the teacher's own passes, as in the
            authors' code. They serve evaluation only if those passes are whole and see clean images; the default
            averages the student's, which leaves the teacher free to stop early.
    """

    def __init__(self, student: nn.Module, own_statistics: bool = False) -> None:
        super().__init__()
        self.network = copy.deepcopy(student).requires_grad_(False)
        self.own_statistics = own_statistics
        if not own_statistics:
            for module in self.network.modules():
                if isinstance(module, _BatchNorm):
                    module.momentum = 0.0  # its own passes use the batch's statistics and leave the running ones

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """theta_k <- m theta_k + (1 - m) theta_q (Eq. 12); of networks in shards, each process moves its own."""
        own = [own_part(parameter) for parameter in self.network.parameters()]
        other = [own_part(parameter) for parameter in student.parameters()]
        if not self.own_statistics:
            for mine, theirs in zip(self.network.buffers(), student.buffers(), strict=True):
                if mine.is_floating_point():
                    own.append(mine)
                    other.append(theirs)
                else:
                    mine.copy_(theirs)
        torch._foreach_lerp_(own, other, 1 - momentum)


def own_part(tensor: Any) -> Tensor:
    """Return this process's shard of a DTensor, which shares its memory; a plain tensor as it is."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def momentum_at(progress: float, start: float = 0.999, end: float = 1.0, hold: float = 0.0) -> float:
    """Return m at `progress` in [0, 1] of the run: `start` for the part `hold`, then half a cosine to `end`."""
    along = max(0.0, progress - hold) / (1 - hold)
    return end - (end - start) * (1 + math.cos(math.pi * along)) / 2
