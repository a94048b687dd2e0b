"""Backbones, and the exported backbone: the door through which transfer and wsol enter."""

from pretrain.backbones.attention import cls_attention
from pretrain.backbones.exported import BackboneCard, export_backbone, load_backbone, read_card, read_weights
from pretrain.backbones.pretrained import (
    is_bare,
    load_pretrained,
    read_bare,
    require_fit,
    start_from,
    timm_classifier,
    untrained,
)
from pretrain.backbones.registry import (
    build_backbone,
    init_head,
    stage_channels,
    stage_count,
    stage_features,
    stage_module,
    stem_of,
    takes_image_size,
)

__all__ = [
    "BackboneCard",
    "build_backbone",
    "cls_attention",
    "export_backbone",
    "init_head",
    "is_bare",
    "load_backbone",
    "load_pretrained",
    "read_bare",
    "read_card",
    "read_weights",
    "require_fit",
    "stage_channels",
    "stage_count",
    "stage_features",
    "stage_module",
    "start_from",
    "stem_of",
    "takes_image_size",
    "timm_classifier",
    "untrained",
]
