"""Mixing methods, one file each, behind one interface."""

from collections.abc import Callable

from pretrain.console import UserError, did_you_mean
from pretrain.mixups.cutmix import CutMix
from pretrain.mixups.mixup import MixUp
from pretrain.mixups.policy import MixPolicy, MixResult
from pretrain.mixups.random_grids import RandomGrids

POLICIES: dict[str, Callable[..., MixPolicy]] = {
    "mixup": MixUp,
    "cutmix": CutMix,
    "random_grids": RandomGrids,
}


def build(name: str, **settings: float | int) -> MixPolicy:
    """Build a mixing method by name, e.g. `build("mixup", alpha=0.2)`; an unknown name is a UserError."""
    if name not in POLICIES:
        raise UserError(f"unknown mixing method '{name}'{did_you_mean(name, list(POLICIES))}")
    return POLICIES[name](**settings)


__all__ = ["POLICIES", "CutMix", "MixPolicy", "MixResult", "MixUp", "RandomGrids", "build"]
