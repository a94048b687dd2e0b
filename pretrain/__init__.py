"""Pretraining of backbones with AutoMix and the mixing methods it is compared with."""

from pretrain.automix import AutoMix, MixBlock
from pretrain.backbones import build_backbone, load_backbone

__all__ = ["AutoMix", "MixBlock", "build_backbone", "load_backbone"]
