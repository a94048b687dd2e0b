"""Detectron2's configuration, with the preprocessing taken from the card of the weights and nothing misspelt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, get_cfg

import transfer.d2.heads
import transfer.d2.swin  # noqa: F401  (both register what the configs name)
from pretrain.backbones import BackboneCard
from pretrain.console import UserError, did_you_mean
from transfer.architectures import SWIN
from transfer.cards import architecture_values, card_values

OWN_HEAD = "Res5ROIHeadsExtraNorm"


def load_config(
    path: str | Path, card: BackboneCard, overrides: list[str] | None = None, check_arch: bool = True
) -> CfgNode:
    """Load a YAML over Detectron2's defaults, write the card's preprocessing into it, and choose the device.

    Args:
        path: The YAML; `_BASE_` works as in Detectron2.
        card: Of the weights that will be loaded; its preprocessing wins over Detectron2's defaults.
        overrides: KEY VALUE KEY VALUE ..., as on the command line.
        check_arch: Whether the config's depth must be the card's.

    Raises:
        UserError: An unknown key, a value of the wrong type, or a setting that contradicts the card.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such config; the ready ones are under configs/d2 and configs/quickstart")
    cfg = _defaults()
    known = list(_flatten(cfg))
    try:
        written = _flatten(CfgNode.load_yaml_with_base(str(path)))
    except (yaml.YAMLError, OSError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    pairs = _pairs(overrides or [])
    for where, keys in ((str(path), list(written)), ("command line", list(pairs))):
        for key in keys:
            if key not in known:
                raise UserError(f"{where}: unknown key {key}{did_you_mean(key, known)}")
    try:
        cfg.merge_from_file(str(path))
    except (ValueError, AssertionError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    for key, value in pairs.items():
        try:
            cfg.merge_from_list([key, value])
        except (ValueError, AssertionError) as error:
            raise UserError(f"command line: {key} {value}: {' '.join(str(error).split())}") from error
    explicit = {*written, *pairs}
    for key, value in card_values(card).items():
        if key in explicit and not _same(_get(cfg, key), value):
            raise UserError(
                f"{path}: {key} is {_get(cfg, key)}, but the weights ({card.arch}, {card.method or 'no method'}) were "
                f"trained with {value}; take it out of the config"
            )
        cfg.merge_from_list([key, value])
    if "MODEL.DEVICE" not in explicit:
        cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    _check(cfg, path, card if check_arch else None)
    return cfg


def backbone_config(card: BackboneCard, head: str) -> CfgNode:
    """Return the smallest config that builds the card's backbone with a C4 or FPN detector on the CPU."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    if head == "fpn":
        stages = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.BACKBONE.NAME = "build_swin_t_fpn_backbone" if card.arch == SWIN else "build_resnet_fpn_backbone"
        cfg.MODEL.RESNETS.OUT_FEATURES = stages
        cfg.MODEL.FPN.IN_FEATURES = stages
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
        cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
        cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
        cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    else:
        cfg.MODEL.ROI_HEADS.NAME = OWN_HEAD
    for key, value in {**architecture_values(card.arch), **card_values(card)}.items():
        cfg.merge_from_list([key, value])
    return cfg


def head_of(cfg: CfgNode) -> str:
    """Return "fpn" where the config's backbone ends in a feature pyramid, else "c4"."""
    return "fpn" if "fpn" in cfg.MODEL.BACKBONE.NAME else "c4"


def changed_values(cfg: CfgNode, defaults: CfgNode) -> dict[str, Any]:
    """Return {key: value} of what differs from the defaults, the output folder apart; values as JSON holds them."""
    usual = _flatten(defaults)
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in _flatten(cfg).items()
        if value != usual.get(key) and key != "OUTPUT_DIR"
    }


def default_value(key: str) -> Any:
    """Return the value of a key, such as "SOLVER.BASE_LR", where no config sets it."""
    return _flatten(_defaults()).get(key)


def _defaults() -> CfgNode:
    """Return Detectron2's defaults and the toolkit's own key."""
    cfg = get_cfg()
    cfg.SOLVER.OPTIMIZER = "SGD"  # "ADAMW" serves short runs
    return cfg


def _check(cfg: CfgNode, path: Path, card: BackboneCard | None) -> None:
    resnets = cfg.MODEL.RESNETS
    if card:
        wanted = architecture_values(card.arch)
        if wrong := {key: value for key, value in wanted.items() if _get(cfg, key) != value}:
            built = ", ".join(f"{key} {_get(cfg, key)}" for key in wrong)
            remedy = " ".join(f"{key} {value}" for key, value in wrong.items())
            raise UserError(f"{path}: it builds another network ({built}) than the weights', {card.arch}; set {remedy}")
    if cfg.SOLVER.OPTIMIZER not in ("SGD", "ADAMW"):
        raise UserError(f"{path}: SOLVER.OPTIMIZER is {cfg.SOLVER.OPTIMIZER}; it can be SGD or ADAMW")
    if cfg.MODEL.WEIGHTS:
        raise UserError(f"{path}: MODEL.WEIGHTS is set; weights come by --weights, where every tensor is checked")
    if head_of(cfg) == "c4" and resnets.DEPTH < 50 and cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeads":
        raise UserError(
            f"{path}: Detectron2's Res5ROIHeads builds Bottleneck blocks, which resnet{resnets.DEPTH} does not have; "
            f"set MODEL.ROI_HEADS.NAME {OWN_HEAD}"
        )
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise UserError(
            f"{path}: DATALOADER.SAMPLER_TRAIN {cfg.DATALOADER.SAMPLER_TRAIN} cannot be resumed exactly; "
            "use TrainingSampler"
        )


def _pairs(overrides: list[str]) -> dict[str, str]:
    if len(overrides) % 2:
        raise UserError(f"command line: settings are KEY VALUE pairs, and {overrides[-1]} has no partner")
    return dict(zip(overrides[::2], overrides[1::2], strict=True))


def _flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {"A.B.C": value} of nested dictionaries, without `_BASE_`."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, dict) and value:
            flat.update(_flatten(value, f"{prefix}{key}."))
        elif key != "_BASE_":
            flat[f"{prefix}{key}"] = value
    return flat


def _get(cfg: CfgNode, key: str) -> Any:
    value: Any = cfg
    for part in key.split("."):
        value = value[part]
    return value


def _same(found: Any, wanted: Any) -> bool:
    """Compare numbers within rounding (123.675 against 255 x 0.485), anything else exactly."""
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(abs(a - b) < 1e-3 for a, b in zip(found, wanted, strict=True))
    return bool(found == wanted)
