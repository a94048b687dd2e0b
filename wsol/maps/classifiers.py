"""Classifiers to be evaluated: our exports, and any network of timm or torchvision by name or by file."""

from __future__ import annotations

import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import get_pretrained_cfg_value
from torch import Tensor, nn
from torchvision import models

from pretrain.backbones import (
    BackboneCard,
    build_backbone,
    is_bare,
    load_backbone,
    read_bare,
    require_fit,
    takes_image_size,
    timm_classifier,
)
from pretrain.console import UserError, did_you_mean, warn
from pretrain.files import sha256

TIMM, TORCHVISION = "timm:", "torchvision:"
OF_HUB, OF_FOLDER = "hf-hub:", "local-dir:"


def load_classifier(source: str | Path, arch: str | None = None) -> tuple[nn.Module, BackboneCard]:
    """Return a trained classifier in eval mode, on the CPU, and its card.

    The card says how images must be prepared. Where it is not one of ours, its classes are "0", "1", ..., its method is
    where the network is from, "timm" or "torchvision", or "" for a file, and its branch which of the weights of that
    name: timm's tag, such as "a1_in1k", torchvision's, such as "IMAGENET1K_V2". Its sha256 is "" where timm downloads,
    which does not say to which file.

    Args:
        source: One of
            - the path of an exported backbone (.safetensors, with its card beside it);
            - "timm:NAME", with or without a tag: the weights that timm downloads; "hf-hub:ORG/MODEL" and
              "local-dir:FOLDER", as `pretrain.backbones.load_pretrained` explains them, with "timm:" before or not;
            - "torchvision:NAME", its default weights, or "torchvision:NAME.TAG";
            - with `arch`, the path of weights alone (.pth, .pth.tar, .bin, .safetensors), in the wrappings that
              `pretrain.backbones.start_from` knows; a suffix .pt will do too.
        arch: The architecture of weights alone: "timm:NAME", "torchvision:NAME", or a name of `build_backbone`. Their
            head tells the number of classes. They are taken to want ImageNet's normalisation; a warning says so.

    Raises:
        UserError: There is no such file or name, the download fails, or the weights do not fit exactly.
    """
    name = str(source)
    named = name.removeprefix(TIMM)
    if arch is not None:
        return _from_file(name, arch)
    if name.startswith(TORCHVISION):
        return _from_torchvision(name.removeprefix(TORCHVISION))
    if name.startswith(TIMM) or named.startswith((OF_HUB, OF_FOLDER)):
        return _from_timm(named)
    has_card = Path(name).with_suffix(".json").is_file()
    if not has_card and not Path(name).is_file() and "://" not in name:
        raise _no_file(name)
    if is_bare(name) or name.endswith(".pt"):
        raise UserError(
            f"{name}: weights without a card do not say which network they are of; name it, such as --arch "
            f"{TIMM}resnet50 or --arch {TORCHVISION}resnet50"
        )
    if not has_card:
        raise UserError(f"{name}: no exported backbone (.safetensors), which has its card beside it; export it again")
    return load_backbone(name)


def _no_file(name: str) -> UserError:
    if timm.is_model(name):
        return UserError(f"{name}: no such file; for a network of that name write {TIMM}{name} or {TORCHVISION}{name}")
    what = "a folder, not a file" if Path(name).is_dir() else "no such file"
    return UserError(
        f"{name}: {what}; name an exported backbone (.safetensors, with its card beside it), {TIMM}NAME or "
        f"{TORCHVISION}NAME, or a file of weights beside --arch"
    )


def untrained_like(card: BackboneCard) -> nn.Module:
    """Return a classifier of the card's architecture and classes with random weights, in eval mode: the control.

    Raises:
        UserError: Nobody knows the architecture.
    """
    return _build(card.arch, len(card.classes), card.input_size).eval()


def _from_timm(source: str) -> tuple[nn.Module, BackboneCard]:
    network: Any = timm_classifier(_with_tag(source))
    config = network.pretrained_cfg
    if len(config["mean"]) != 3 or config["input_size"][0] != 3:
        raise UserError(f"{source}: it takes images of {config['input_size'][0]} channels, not of 3; take another")
    weights = Path(source.removeprefix(OF_FOLDER)) / "model.safetensors"
    card = BackboneCard(
        arch=config["architecture"],
        classes=_numbered(network.num_classes),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        input_size=tuple(config["input_size"][1:]),
        method="timm",
        branch=config.get("tag") or "model",
        sha256=sha256(weights) if source.startswith(OF_FOLDER) and weights.is_file() else "",
    )
    return network, card


def _with_tag(name: str) -> str:
    """Return one of timm's names with the tag of its default weights, which a bare name means."""
    if not timm.is_model(name) or "." in name:
        return name
    config = timm.get_pretrained_cfg(name)
    return f"{name}.{config.tag}" if config is not None and config.tag else name


def _from_torchvision(source: str) -> tuple[nn.Module, BackboneCard]:
    name, _, tag = source.partition(".")
    _check_torchvision(name)
    known = models.get_model_weights(name)
    if tag and tag not in known.__members__:
        raise UserError(f"{TORCHVISION}{source}: no such weights{did_you_mean(tag, list(known.__members__))}")
    weights = known[tag or "DEFAULT"]
    try:
        network = models.get_model(name, weights=weights, progress=sys.stderr.isatty())
    except (OSError, HTTPException, RuntimeError) as error:
        raise UserError(
            f"{TORCHVISION}{source}: its weights cannot be downloaded ({' '.join(str(error).split())[:200]}); fetch "
            f"{weights.url} where there is a connection, and name the file beside --arch {TORCHVISION}{name}"
        ) from error
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    shown = weights.transforms()
    card = BackboneCard(
        arch=f"{TORCHVISION}{name}",
        classes=_numbered(len(weights.meta["categories"])),
        mean=tuple(shown.mean),
        std=tuple(shown.std),
        input_size=(shown.crop_size[0], shown.crop_size[0]),
        method="torchvision",
        branch=weights.name,
        sha256=sha256(file) if file.is_file() else "",
    )
    return network.eval(), card


def _from_file(source: str, arch: str) -> tuple[nn.Module, BackboneCard]:
    path = Path(source)
    if source.startswith((TIMM, TORCHVISION, OF_HUB, OF_FOLDER)) or path.with_suffix(".json").is_file():
        raise UserError(f"{source}: what it is of is known; leave out --arch {arch}")
    if not path.is_file():
        raise UserError(f"{source}: no such file")
    arch = arch.removeprefix(TIMM)
    given = _unwrapped(read_bare(source))
    size = _input_size(arch)
    head = _head_name(_build(arch, 1000, size))
    if head not in given or given[head].ndim < 2:
        raise UserError(
            f"{source}: holds no {head}, the head of {arch}; name a classifier's weights, or another --arch"
        )
    aux = any(name.lower().startswith("aux") for name in given)
    network = _build(arch, len(given[head]), size, aux)
    require_fit(dict(network.state_dict()), given, source, arch, "set --arch to their architecture")
    network.load_state_dict(given, strict=False)  # old files lack the batch norms' counts, and nothing else
    warn(
        f"{source} has no card: its images are taken to want normalisation by mean {IMAGENET_DEFAULT_MEAN} and std "
        f"{IMAGENET_DEFAULT_STD}"
    )
    card = BackboneCard(arch=arch, classes=_numbered(len(given[head])), input_size=size, sha256=sha256(path))
    return network.eval(), card


def _unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without the "model." that a training loop's own module puts before every name."""
    if all(name.startswith("model.") for name in weights):
        return {name.removeprefix("model."): value for name, value in weights.items()}
    return weights


def _build(arch: str, classes: int, size: tuple[int, int], aux: bool = False) -> nn.Module:
    """Return a network with random weights; `aux` asks for GoogLeNet's and Inception's auxiliary heads."""
    if not arch.startswith(TORCHVISION):
        settings: dict[str, Any] = {"img_size": size} if takes_image_size(arch) else {}
        return build_backbone(arch, classes, **settings)
    name = arch.removeprefix(TORCHVISION)
    _check_torchvision(name)
    settings = {}
    if name in ("googlenet", "inception_v3"):
        # The weights of both want their images at another normalisation, which the network itself makes of ImageNet's.
        settings = {"aux_logits": aux, "transform_input": True, "init_weights": True}
    network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **settings)
    return network


def _check_torchvision(name: str) -> None:
    if name not in (known := models.list_models(module=models)):
        raise UserError(f"{TORCHVISION}{name}: torchvision has no such classifier{did_you_mean(name, known)}")


def _input_size(arch: str) -> tuple[int, int]:
    """Return the image size that an architecture was made for; 224x224 where nobody says."""
    if arch.startswith(TORCHVISION):
        name = arch.removeprefix(TORCHVISION)
        _check_torchvision(name)
        side = int(models.get_model_weights(name)["DEFAULT"].transforms().crop_size[0])
        return side, side
    if timm.is_model(arch):
        _, height, width = get_pretrained_cfg_value(arch, "input_size") or (3, 224, 224)
        return int(height), int(width)
    return 224, 224


def _head_name(network: nn.Module) -> str:
    """Return the name of the weight whose first axis is the classes."""
    find = getattr(network, "get_classifier", None)
    head = find() if callable(find) else None
    head = head[0] if isinstance(head, tuple) else head
    within = {*(network if head is None else head).modules()}  # torchvision does not say; its heads come last
    layers = {name: module for name, module in network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))}
    return f"{[name for name, module in layers.items() if module in within][-1]}.weight"


def _numbered(classes: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(classes))
