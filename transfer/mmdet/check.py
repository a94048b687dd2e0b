"""Whether a configuration fits the weights and the published protocol: all that contradicts, before anything is built.

MMDetection's defaults belong to its own weights: norms in evaluation mode, and in its C4 configurations Caffe's stride,
BGR, std 1 and frozen stages. One of them left in place trains without an error and loses points of AP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict

from pretrain.backbones import BackboneCard
from transfer.architectures import SWIN
from transfer.cards import mmdet_preprocessing, mmdet_values
from transfer.finetuning.check import Finding, same, told
from transfer.mmdet.parts import effective, parameters_of

LOOP, EXTRA_NORM_HEAD = "ResumableLoop", "ResLayerExtraNorm"
BATCH_NORMS = ("SyncBN", "BN")
BACKBONE, SHARED_HEAD, NECK = "model.backbone", "model.roi_head.shared_head", "model.neck"
PREPROCESSOR = "model.data_preprocessor"
CHANNELS = ("base_channels", "stem_channels")
SWIN_SHAPE = ("embed_dims", "depths", "num_heads", "window_size", "mlp_ratio")
FROM_SCRATCH = BackboneCard(arch="", classes=())  # torchvision's preprocessing, as for every start that is compared


def findings(
    cfg: Config, card: BackboneCard | None, given: Mapping[str, str], head: str, convert: str
) -> list[Finding]:
    """Compare every setting on which the transfer of the weights rests; nothing is built and no data set is read.

    Args:
        cfg: The configuration.
        card: Of the weights; None from scratch.
        given: {key: check.COMMAND_LINE} of what the command line sets: then it is meant, and no slip of a copied file.
        head: "c4" or "fpn", which the weights were converted for; empty where it is not known.
        convert: The command that converts them for the other head.
    """
    return [
        *_preprocessing(cfg.model, card),
        *_heads(cfg.model, given, head, convert),
        *(_architecture(cfg.model, card) if card else ()),
        *_norms(cfg.model, card, given),
        *_training(cfg),
    ]


def config_head(model: ConfigDict) -> str:
    """Return "c4" if the last stage sits in the RoI head, else "fpn"."""
    return "c4" if model.roi_head.get("shared_head") else "fpn"


def adopt_preprocessing(model: ConfigDict, card: BackboneCard | None) -> None:
    """Put the card's mean and std, in units of 0..255, in the place of ImageNet's."""
    preprocessor = model.get("data_preprocessor") or {}
    for name in ("mean", "std"):
        if same(list(preprocessor.get(name) or ()), mmdet_preprocessing(FROM_SCRATCH)[name]):
            preprocessor[name] = mmdet_preprocessing(card or FROM_SCRATCH)[name]


def _preprocessing(model: ConfigDict, card: BackboneCard | None) -> Iterator[Finding]:
    preprocessor = model.get("data_preprocessor") or {}
    owner = f"but the weights ({_described(card)}) were trained with" if card else "but random weights get"
    wanted = mmdet_preprocessing(card or FROM_SCRATCH)
    for name in ("mean", "std"):
        own = wanted[name]
        found = list(preprocessor.get(name) or ())
        caffe = name == "std" and found == [1.0] * 3
        family = " (std 1 belongs to Caffe's weights, BGR)" if caffe else ""
        problem = "" if same(found, own) else f"{owner} {own}{family}; leave it to the card"
        yield Finding(f"{PREPROCESSOR}.{name}", told(own), told(found), problem)
    rgb = bool(preprocessor.get("bgr_to_rgb")) and not preprocessor.get("rgb_to_bgr")
    order, given = ("RGB" if colour else "BGR" for colour in (wanted["bgr_to_rgb"], rgb))
    problem = ""
    if order != given:
        problem = f"so {given} pictures reach the detector, {owner} {order}; set it to {wanted['bgr_to_rgb']}"
    yield Finding(f"{PREPROCESSOR}.bgr_to_rgb", str(wanted["bgr_to_rgb"]), str(rgb), problem)


def _heads(model: ConfigDict, given: Mapping[str, str], head: str, convert: str) -> Iterator[Finding]:
    built, problem = config_head(model), ""
    if head not in ("", built):
        detector = "an FPN" if built == "fpn" else "a C4"
        problem = f"{detector} detector, but the weights were converted with --head {head}; {convert} --head {built}"
    name = model.roi_head.shared_head.type if built == "c4" else "none"
    yield Finding(SHARED_HEAD, f"--head {head}" if head else "-", name, problem)
    if built == "c4" and name != EXTRA_NORM_HEAD:
        key, problem, departure = f"{SHARED_HEAD}.type", "", ""
        if _departs(given, key):
            departure = f"the protocol has a norm after stage 4 ({EXTRA_NORM_HEAD})"
        else:
            problem = (
                f"but the protocol has a norm after stage 4; set {EXTRA_NORM_HEAD}, or write it on the command line"
            )
        yield Finding(key, EXTRA_NORM_HEAD, name, problem, departure)


def _architecture(model: ConfigDict, card: BackboneCard) -> Iterator[Finding]:
    own = mmdet_values(card, config_head(model))["backbone"]
    wanted = {key: own[key] for key in ("type", "depth", "groups", "base_width", "style") if key in own}
    if card.arch == SWIN:  # Swin-T is what mmdet builds where nothing is said
        wanted |= {key: parameters_of(wanted["type"])[key] for key in SWIN_SHAPE}
    else:
        wanted |= {key: own.get(key, 64) for key in CHANNELS}
    for where, part in _stages(model):
        for key, value in wanted.items():
            if key in ("type", "stem_channels") and where == SHARED_HEAD:
                continue
            found: Any = _channels(part, key) if key in CHANNELS else effective(part, key)
            equal = tuple(found or ()) == value if isinstance(value, tuple) else found == value
            why = " (where the stride sits)" if key == "style" else ""
            problem = "" if equal else f"but the weights ({_described(card)}) have {value}{why}"
            yield Finding(f"{where}.{key}", str(value), str(found), problem)


def _channels(part: ConfigDict, key: str) -> int:
    """Return how many channels a part is built with; MMDetection's own shared head has no word for others than 64."""
    return int(effective(part, key) or effective(part, "base_channels") or 64)


def _norms(model: ConfigDict, card: BackboneCard | None, given: Mapping[str, str]) -> Iterator[Finding]:
    """Compare what is trained: every stage, and every norm by the statistics of its batch."""
    if model.backbone.type != "SwinTransformer":
        for where, part in _stages(model):
            norm = effective(part, "norm_cfg") or {}
            yield _norm_type(f"{where}.norm_cfg.type", norm.get("type"), card)
            trained, key = bool(norm.get("requires_grad", True)), f"{where}.norm_cfg.requires_grad"
            yield _trained(key, "True", str(trained), trained, "every norm", card, given)
            mode = bool(effective(part, "norm_eval"))
            yield _trained(f"{where}.norm_eval", "False", str(mode), not mode, "every norm on its batch", card, given)
    frozen = effective(model.backbone, "frozen_stages")
    key = f"{BACKBONE}.frozen_stages"
    yield _trained(key, "-1", str(frozen), frozen < 0, "every layer", card, given)
    if model.get("neck"):
        swin = model.backbone.type == "SwinTransformer"
        own = (model.neck.get("norm_cfg") or {}).get("type")
        wanted = "SyncBN" if swin else (effective(model.backbone, "norm_cfg") or {}).get("type")
        key, departure, problem = f"{NECK}.norm_cfg.type", "", ""
        if own != wanted and _departs(given, key):
            departure = f"the protocol has the backbone's norm there ({wanted})"
        elif own != wanted and not (swin and own == "BN"):
            problem = f"but the protocol has {wanted} there; set it, or write the other one on the command line"
        yield Finding(key, str(wanted), str(own), problem, departure)


def _norm_type(key: str, norm: str | None, card: BackboneCard | None) -> Finding:
    problem = ""
    if norm not in BATCH_NORMS and card:
        problem = "but the weights' norms are BatchNorm, whose running statistics would be lost; set SyncBN"
    return Finding(key, "BatchNorm" if card else "SyncBN", str(norm), problem)


def _trained(
    key: str, wanted: str, found: str, fits: bool, what: str, card: BackboneCard | None, given: Mapping[str, str]
) -> Finding:
    """Return the finding for a setting by which something is not trained."""
    problem = departure = ""
    if not fits and card is None:
        problem = f"which from scratch freezes what no one trained; set {wanted}"
    elif not fits and _departs(given, key):
        departure = f"the protocol trains {what} ({wanted})"
    elif not fits:
        problem = f"but the protocol trains {what}; set {wanted}, or write it on the command line"
    return Finding(key, wanted, found, problem, departure)


def _training(cfg: Config) -> Iterator[Finding]:
    """Yield the settings by which an honest run would break or load something else; only those that are wrong."""
    loop = cfg.train_cfg.get("type")
    if loop != LOOP or "max_iters" not in cfg.train_cfg:
        remedy = f"which cannot be resumed exactly; set type='{LOOP}' and max_iters, as configs/mmdet do"
        yield Finding("train_cfg.type", LOOP, str(loop), remedy)
    for key in ("sampler", "batch_sampler"):
        if cfg.train_dataloader.get(key):
            found = cfg.train_dataloader[key].get("type")
            remedy = f"but {LOOP} orders the pictures itself, by seed and aspect ratio; take it out"
            yield Finding(f"train_dataloader.{key}", "-", str(found), remedy)
    for number, entry in enumerate(cfg.get("param_scheduler") or ()):
        if entry.get("by_epoch", True):
            remedy = "so it would never take a step: the loop counts iterations; set by_epoch=False"
            yield Finding(f"param_scheduler.{number}.by_epoch", "False", "True", remedy)
    if (cfg.get("auto_scale_lr") or {}).get("enable"):
        remedy = "by which mmengine scales the rate behind the settings, and not the schedule; use --scale-to"
        yield Finding("auto_scale_lr.enable", "False", "True", remedy)
    if not (cfg.get("auto_scale_lr") or {}).get("base_batch_size"):
        remedy = "but for how many images a step is the rate meant? set it, e.g. to 16"
        yield Finding("auto_scale_lr.base_batch_size", "16", "None", remedy)
    parts = {"model": cfg.model, **dict(_stages(cfg.model))}
    for where, part in parts.items():
        for key in ("init_cfg", "pretrained"):
            if part.get(key) and (key == "pretrained" or part[key].get("type") == "Pretrained"):
                remedy = "but weights come by --weights, where every tensor is checked; take it out"
                yield Finding(f"{where}.{key}", "-", str(part[key]), remedy)
    if cfg.get("load_from"):
        remedy = "but weights come by --weights, where every tensor is checked; take it out"
        yield Finding("load_from", "-", str(cfg.load_from), remedy)


def _stages(model: ConfigDict) -> Iterator[tuple[str, ConfigDict]]:
    """Yield (where, part) for the parts that the weights fill."""
    yield BACKBONE, model.backbone
    if config_head(model) == "c4":
        yield SHARED_HEAD, model.roi_head.shared_head


def _departs(given: Mapping[str, str], key: str) -> bool:
    """Return whether the command line sets this key, or a group of keys that holds it."""
    return any(key == option or key.startswith(f"{option}.") for option in given)


def _described(card: BackboneCard | None) -> str:
    return f"{card.arch}, {card.method or 'no method'}" if card else ""
