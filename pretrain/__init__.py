"""Pretraining of backbones with AutoMix and the mixing methods it is compared with."""

from pretrain.backbones import build_backbone, load_backbone

__all__ = ["build_backbone", "load_backbone"]
