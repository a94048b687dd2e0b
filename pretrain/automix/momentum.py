"""The momentum encoder: the teacher that the Mix Block learns from (Section 3.2, Eq. 12)."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


class MomentumEncoder(nn.Module):
    """A copy of a network whose parameters follow it by an exponential moving average.

    Parameters alone are averaged; the batch-norm statistics are the teacher's own, from the passes it makes.
    None of its parameters asks for a gradient.

    Args:
        student: The network to copy and to follow.
    """

    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(student).requires_grad_(False)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """theta_k <- m theta_k + (1 - m) theta_q (Eq. 12)."""
        torch._foreach_lerp_(list(self.network.parameters()), list(student.parameters()), 1 - momentum)


def cosine_momentum(start: float, end: float, progress: float) -> float:
    """Return m at `progress` in [0, 1] of the run: `start` at 0, `end` at 1, along half a cosine."""
    return end - (end - start) * (1 + math.cos(math.pi * progress)) / 2
