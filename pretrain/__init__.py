"""Pretraining of backbones with AutoMix and the mixing methods it is compared with."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pretrain.automix import AutoMix, MixBlock
    from pretrain.backbones import build_backbone, load_backbone

__all__ = ["AutoMix", "MixBlock", "build_backbone", "load_backbone"]

_ROOMS = {
    "AutoMix": "automix",
    "MixBlock": "automix",
    "build_backbone": "backbones",
    "load_backbone": "backbones",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: torch takes seconds, and `--help` does not want it."""
    if name not in _ROOMS:
        raise AttributeError(f"module 'pretrain' has no attribute '{name}'")
    return getattr(import_module(f"pretrain.{_ROOMS[name]}"), name)
