"""Mixing inside the network, for ManifoldMix and AlignMix: the feature map of a stage is replaced on its way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.backbones import stage_count, stage_module
from pretrain.mixups.policy import Criterion, MixResult


@dataclass(frozen=True, kw_only=True)
class StageMix(MixResult):
    """A batch to be mixed behind a stage of the network: its images are clean, its labels mixed, its mask None.

    Attributes:
        stage: From 1, as in `stage_module`; None is the last.
        mix: A feature map and those of the partners, each (N, C, h, w) or tokens (N, T, C), to the mixed one.
    """

    stage: int | None
    mix: Callable[[Tensor, Tensor], Tensor]

    def loss(self, model: nn.Module, criterion: Criterion) -> Tensor:
        """Return the loss of the mixed batch, a scalar; see `mixed_stage`."""
        with mixed_stage(model, self.stage, lambda features: self.mix(features, features[self.index])):
            logits = model(self.images)
        return criterion(logits, self.soft_targets)


@contextmanager
def mixed_stage(model: nn.Module, stage: int | None, mix: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let forward passes of `model` replace the feature map of a stage by `mix` of it.

    Compiled code knows nothing of hooks that come later, so that the passes inside run uncompiled.

    Args:
        model: A network of `build_backbone`.
        stage: From 1, as in `stage_module`; None is the last.
        mix: Gets and returns (N, C, h, w), whatever the layout inside the network, or tokens (N, T, C).

    Raises:
        UserError: The network has no such stage.
        RuntimeError: The passes went round the stage's module, as those of a compiled network do in torch before 2.6,
            and timm's with gradient checkpointing in some networks; nothing was mixed.
    """
    ran = False

    def replace(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        nonlocal ran
        ran = True
        if output.ndim == 4 and getattr(model, "output_fmt", "NCHW") == "NHWC":
            return mix(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return mix(output)

    number = stage_count(model) if stage is None else stage
    hook = stage_module(model, number).register_forward_hook(replace)
    try:
        with _uncompiled():
            yield
    finally:
        hook.remove()
    if not ran:
        raise RuntimeError(
            f"the forward pass went round the module of stage {number}, so that nothing was mixed there; "
            "switch off torch.compile (or install torch 2.6) and gradient checkpointing"
        )


def _uncompiled() -> AbstractContextManager[Any]:
    """Return a context in which compiled networks run as they are written; torch has it from 2.6."""
    stance = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if stance is None else stance("force_eager")
