"""The card that lies beside a checkpoint: an export's, a converted file's, or the config of a fine-tuned detector."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from pretrain.backbones import BackboneCard, read_card, read_weights
from pretrain.console import UserError
from pretrain.files import read_json, sha256
from transfer.architectures import RESNETS, SWIN, ResNetShape

CONVERTED = {"target", "head", "source", "verification", "weights_sha256"}  # what a converted file's card has on top


def card_beside(path: str | Path) -> BackboneCard | None:
    """Return the card of a checkpoint, or None where it has none.

    Raises:
        UserError: The card is damaged, or is of another file than this.
    """
    path = Path(path)
    if path.suffix == ".safetensors" and path.with_suffix(".json").is_file() and not is_converted(path):
        read_weights(path)  # for its check of the digest
        return read_card(path)
    if is_converted(path):
        return read_converted_card(path)[0]
    config = path.with_name("config.yaml")
    if config.is_file() and path.with_name("run.json").is_file():
        return _card_of_run(config)
    return None


def is_converted(path: Path) -> bool:
    """Return whether the JSON beside a file is the card of a converted one."""
    card = path.with_suffix(".json")
    values = read_json(card) if card.is_file() else None
    return isinstance(values, dict) and set(values) >= CONVERTED


def card_values(card: BackboneCard) -> dict[str, Any]:
    """Return the keys of a Detectron2 config that the card decides.

    Detectron2's pixels run from 0 to 255, the card's from 0 to 1.
    """
    values: dict[str, Any] = {
        "INPUT.FORMAT": card.channel_order,
        "MODEL.PIXEL_MEAN": [round(255 * value, 6) for value in card.mean],
        "MODEL.PIXEL_STD": [round(255 * value, 6) for value in card.std],
    }
    if card.arch != SWIN:
        values["MODEL.RESNETS.STRIDE_IN_1X1"] = card.stride_style == "caffe"
    return values


def architecture_values(arch: str) -> dict[str, int]:
    """Return the keys of a Detectron2 config that say which ResNet or ResNeXt is built; none for a Swin transformer."""
    if arch == SWIN:
        return {}
    shape = RESNETS[arch]
    return {
        "MODEL.RESNETS.DEPTH": shape.depth,
        "MODEL.RESNETS.NUM_GROUPS": shape.groups,
        "MODEL.RESNETS.WIDTH_PER_GROUP": shape.width_per_group,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": shape.stage1_channels,
    }


def converted_card(card: BackboneCard, path: Path, **entries: Any) -> dict[str, Any]:
    """Return what is written beside a converted file: the card, and where the weights are from and go to."""
    values = {**asdict(card), **entries, "weights_sha256": sha256(path)}
    assert set(entries) | {"weights_sha256"} == CONVERTED
    return values


def read_converted_card(path: Path) -> tuple[BackboneCard, dict[str, Any]]:
    """Read OUT.json beside a converted file; return the card, and the entries that came on top.

    Raises:
        UserError: It is not such a card, or the file is not the one that it describes.
    """
    own = path.with_suffix(".json")
    values = read_json(own)
    known = {entry.name for entry in fields(BackboneCard)}
    if not isinstance(values, dict) or set(values) != CONVERTED | known:
        raise UserError(f"{own}: not written by the converter; convert the checkpoint again")
    if sha256(path) != values["weights_sha256"]:
        raise UserError(f"{path}: its SHA-256 is not the one in its JSON; convert {values['source']} again")
    entries: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name in known
    }
    return BackboneCard(**entries), {name: values[name] for name in CONVERTED}


def _card_of_run(config: Path) -> BackboneCard:
    """Return the card of a detector that tools/finetune_d2.py trained: its preprocessing is that of its config.

    Raises:
        UserError: The config is damaged, or its backbone is not one that is converted.
    """
    run = read_json(config.with_name("run.json"))
    try:
        values = yaml.safe_load(config.read_text())
        resnets = values["MODEL"]["RESNETS"]
        shape = ResNetShape(resnets["DEPTH"], resnets["NUM_GROUPS"], resnets["WIDTH_PER_GROUP"])
        swin = "swin" in values["MODEL"]["BACKBONE"]["NAME"]
        mean, std = (
            tuple(round(value / 255, 6) for value in values["MODEL"][key]) for key in ("PIXEL_MEAN", "PIXEL_STD")
        )
        card = BackboneCard(
            arch=SWIN if swin else next(name for name, known in RESNETS.items() if known == shape),
            classes=(),
            stride_style="caffe" if resnets["STRIDE_IN_1X1"] else "pytorch",
            channel_order=values["INPUT"]["FORMAT"],
            mean=mean,
            std=std,
            method=run["start"],
            training={"fine-tuned on": list(values["DATASETS"]["TRAIN"]), "seed": run["seed"]},
        )
    except (yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise UserError(f"{config}: not the config of a fine-tuned detector of a known backbone ({error})") from error
    return card
