"""The card that lies beside a checkpoint: an export's, a converted file's, or the config of a fine-tuned detector."""

from __future__ import annotations

import re
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
    run = path.with_name("run.json")
    if run.is_file():
        return _card_of_run(run)
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


def mmdet_preprocessing(card: BackboneCard) -> dict[str, Any]:
    """Return the keys of an MMDetection config's `model.data_preprocessor` that the card decides; 0 to 255."""
    return {
        "mean": [round(255 * value, 6) for value in card.mean],
        "std": [round(255 * value, 6) for value in card.std],
        "bgr_to_rgb": card.channel_order == "RGB",  # MMDetection reads pictures as BGR
    }


def mmdet_values(card: BackboneCard, head: str) -> dict[str, Any]:
    """Return what the weights decide in the `model` of an MMDetection config, and of the parts around the backbone.

    To be laid over a config for a ResNet-50: it names what differs there and what MMDetection sets otherwise. Nothing
    is frozen and every norm trains, as in all recipes for these weights.

    Args:
        card: Of the converted weights.
        head: "c4" or "fpn".
    """
    values: dict[str, Any] = {"data_preprocessor": mmdet_preprocessing(card)}
    if card.arch == SWIN:  # MMDetection's defaults are Swin-T; the names are its own already
        return {**values, "backbone": {"type": "SwinTransformer", "convert_weights": False, "frozen_stages": -1}}
    shape = RESNETS[card.arch]
    grouped = {"groups": shape.groups, "base_width": shape.width_per_group} if shape.groups > 1 else {}
    slim = shape.base_channels != 64
    stages = {
        "depth": shape.depth,
        **grouped,
        **({"base_channels": shape.base_channels} if slim else {}),
        "style": card.stride_style,
        "norm_cfg": {"type": "SyncBN", "requires_grad": True},
        "norm_eval": False,
    }
    values["backbone"] = {"type": "ResNeXt" if grouped else "ResNet", **stages, "frozen_stages": -1}
    if slim:
        values["backbone"]["stem_channels"] = 64
    channels = [shape.stage1_channels * 2**stage for stage in range(4)]
    if head == "fpn":
        return {**values, "neck": {"in_channels": channels}}
    return {
        **values,
        "rpn_head": {"in_channels": channels[2], "feat_channels": channels[2]},
        "roi_head": {
            "shared_head": {"type": "ResLayerExtraNorm", **stages},
            "bbox_roi_extractor": {"out_channels": channels[2]},
            "bbox_head": {"in_channels": channels[3]},
        },
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


def _card_of_run(path: Path) -> BackboneCard | None:
    """Return the card of a detector that this toolkit fine-tuned: its preprocessing is that of its config.

    Args:
        path: run.json; that of a Detectron2 run has a config.yaml beside it.

    Raises:
        UserError: The config is damaged, or its backbone is not one that is converted.
    """
    run, config = read_json(path), path.with_name("config.yaml")
    try:
        if config.is_file():
            values = _of_detectron2(yaml.safe_load(config.read_text()))
        elif "model.backbone.type" in run["settings"]:
            values = _of_mmdet(run["settings"])
        else:
            return None
        mean, std = (tuple(round(value / 255, 6) for value in values.pop(key)) for key in ("mean", "std"))
        training = {"fine-tuned on": values.pop("data"), "seed": run["seed"]}
        return BackboneCard(classes=(), mean=mean, std=std, method=run["start"], training=training, **values)
    except (yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        origin = config if config.is_file() else path
        raise UserError(f"{origin}: not the config of a fine-tuned detector of a known backbone ({error})") from error


def _of_detectron2(cfg: dict[str, Any]) -> dict[str, Any]:
    """Return what a card says, from a Detectron2 config; mean and std in 0..255."""
    model, resnets = cfg["MODEL"], cfg["MODEL"]["RESNETS"]
    shape = ResNetShape(resnets["DEPTH"], resnets["NUM_GROUPS"], resnets["WIDTH_PER_GROUP"])
    return {
        "arch": SWIN if "swin" in model["BACKBONE"]["NAME"] else _arch(shape),
        "stride_style": "caffe" if resnets["STRIDE_IN_1X1"] else "pytorch",
        "channel_order": cfg["INPUT"]["FORMAT"],
        "mean": model["PIXEL_MEAN"],
        "std": model["PIXEL_STD"],
        "data": list(cfg["DATASETS"]["TRAIN"]),
    }


def _of_mmdet(settings: dict[str, Any]) -> dict[str, Any]:
    """Return what a card says, from the settings that a run of MMDetection records; mean and std in 0..255."""
    swin = settings["model.backbone.type"] == "SwinTransformer"
    groups = settings.get("model.backbone.groups", 1)
    width = settings.get("model.backbone.base_width", 4) if groups > 1 else 64
    base = settings.get("model.backbone.base_channels", 64)
    rgb = settings["model.data_preprocessor.bgr_to_rgb"]
    files = [value for key, value in settings.items() if re.fullmatch(r"train_dataloader\.dataset\..*ann_file", key)]
    return {
        "arch": SWIN if swin else _arch(ResNetShape(settings["model.backbone.depth"], groups, width, base)),
        "stride_style": settings.get("model.backbone.style", "pytorch"),
        "channel_order": "RGB" if rgb else "BGR",
        "mean": settings["model.data_preprocessor.mean"],
        "std": settings["model.data_preprocessor.std"],
        "data": files,
    }


def _arch(shape: ResNetShape) -> str:
    return next(name for name, known in RESNETS.items() if known == shape)
