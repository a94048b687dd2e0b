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
from transfer.d2 import check
from transfer.finetuning import check as checking
from transfer.finetuning.job import Reading

PREPROCESSING_FROM_SCRATCH = BackboneCard(arch="", classes=())  # torchvision's, as for every start that is compared


def load_config(path: str | Path, card: BackboneCard | None, overrides: list[str] | None = None) -> CfgNode:
    """Return the config, where nothing in it contradicts the weights or the protocol; see `read_config`.

    Raises:
        UserError: As `read_config`, or for the contradictions, all of them at once.
    """
    reading = read_config(path, card, overrides)
    checking.refuse(reading.problems)
    return reading.cfg


def read_config(
    path: str | Path,
    card: BackboneCard | None,
    overrides: list[str] | None = None,
    head: str = "",
    source: str = "CHECKPOINT",
) -> Reading:
    """Read a YAML over Detectron2's defaults, write the card's preprocessing into it, choose the device, and check it.

    Args:
        path: The YAML; `_BASE_` works as in Detectron2.
        card: Of the weights that will be loaded, None from scratch; its preprocessing wins over Detectron2's defaults.
        overrides: KEY VALUE KEY VALUE ..., as on the command line.
        head: "c4" or "fpn", which the weights were converted for; empty where it is not known.
        source: The checkpoint that they were converted from, for the remedy.

    Raises:
        UserError: An unknown key or a value of the wrong type.
    """
    path = Path(path)
    cfg, given = _read(path, _pairs(overrides or []))
    preprocessing = card_values(card or PREPROCESSING_FROM_SCRATCH)
    for key, value in preprocessing.items():
        if key not in given or checking.same(value_of(cfg, key), value):
            cfg.merge_from_list([key, value])
    if "MODEL.DEVICE" not in given:
        cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    subject = check.Subject(
        values=_flatten(cfg),
        given=given,
        preprocessing=preprocessing,
        architecture=architecture_values(card.arch) if card else {},
        built=head_of(cfg),
        weights=f"{card.arch}, {card.method or 'no method'}" if card else "",
        head=head,
        convert=f"python tools/convert_to_d2.py {source} OUT.pth",
    )
    found = check.findings(subject)
    return Reading(cfg, given, found, checking.problems(found, given, path))


def _read(path: Path, pairs: dict[str, str]) -> tuple[CfgNode, dict[str, str]]:
    """Return the config and {key: where it was written}; a key or value that Detectron2 does not know is refused."""
    if not path.is_file():
        raise UserError(f"{path}: no such config; the ready ones are under configs/d2 and configs/quickstart")
    cfg = _defaults()
    known = list(_flatten(cfg))
    try:
        written = _flatten(CfgNode.load_yaml_with_base(str(path)))
    except (yaml.YAMLError, OSError) as error:
        raise UserError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    given = dict.fromkeys(written, str(path)) | dict.fromkeys(pairs, checking.COMMAND_LINE)
    for key, place in given.items():
        if key not in known:
            raise UserError(f"{place}: unknown key {key}{did_you_mean(key, known)}")
    try:
        cfg.merge_from_file(str(path))
    except (ValueError, AssertionError) as error:
        raise UserError(f"{path}: {' '.join(str(error).split())}") from error
    for key, value in pairs.items():
        try:
            cfg.merge_from_list([key, value])
        except (ValueError, AssertionError) as error:
            raise UserError(f"command line: {key} {value}: {' '.join(str(error).split())}") from error
    return cfg, given


def backbone_config(card: BackboneCard, head: str) -> CfgNode:
    """Return the smallest config that builds the card's backbone with a C4 or FPN detector on the CPU."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    if head == "fpn":
        stages = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.BACKBONE.NAME = check.SWIN_BACKBONE if card.arch == SWIN else "build_resnet_fpn_backbone"
        cfg.MODEL.RESNETS.OUT_FEATURES = stages
        cfg.MODEL.FPN.IN_FEATURES = stages
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
        cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
        cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
        cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    else:
        cfg.MODEL.ROI_HEADS.NAME = check.EXTRA_NORM_HEAD
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


def value_of(cfg: CfgNode, key: str) -> Any:
    """Return the value of a key such as "SOLVER.BASE_LR"."""
    value: Any = cfg
    for part in key.split("."):
        value = value[part]
    return value


def default_value(key: str) -> Any:
    """Return the value of a key, such as "SOLVER.BASE_LR", where no config sets it."""
    return _flatten(_defaults()).get(key)


def _defaults() -> CfgNode:
    """Return Detectron2's defaults and the toolkit's own key."""
    cfg = get_cfg()
    cfg.SOLVER.OPTIMIZER = "SGD"  # "ADAMW" serves short runs
    return cfg


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
