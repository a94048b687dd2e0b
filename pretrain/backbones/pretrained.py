"""Networks that were trained before, by this toolkit or by others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from pretrain.backbones.exported import load_backbone
from pretrain.console import UserError, did_you_mean


def load_pretrained(source: str) -> nn.Module:
    """Return a trained classifier in eval mode, frozen, for images normalised as they are here.

    Args:
        source: The path of an exported backbone (.safetensors), or name and tag of one of timm's pretrained networks,
            such as "resnet50.tv_in1k" (torchvision's weights), which timm downloads once.

    Raises:
        UserError: There is no such file or name, the download fails, or the network wants another normalisation.
    """
    if source.endswith(".safetensors"):
        network, card = load_backbone(Path(source))
        mean, std = card.mean, card.std
    else:
        network = _from_timm(source)
        mean, std = network.pretrained_cfg["mean"], network.pretrained_cfg["std"]
    if (tuple(mean), tuple(std)) != (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD):
        raise UserError(
            f"{source}: it wants images normalised by mean {mean} and std {std}, not ImageNet's; take another"
        )
    return network.requires_grad_(False).eval()


def _from_timm(name: str) -> Any:
    known = timm.list_pretrained()
    if name not in known:
        raise UserError(
            f"'{name}' is neither an exported backbone (.safetensors) nor one of timm's pretrained networks"
            f"{did_you_mean(name, known) if '.' in name else '; their names carry a tag, such as resnet50.tv_in1k'}"
        )
    try:
        return timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub raises errors of several libraries
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{name}: its weights cannot be downloaded ({first}); export the network where there is a connection, and "
            "name the file"
        ) from error


@torch.no_grad()
def start_from(network: nn.Module, source: str) -> None:
    """Copy into a network all weights of a trained one but those of its classification head.

    Args:
        network: Of `build_backbone`; its head keeps its own values.
        source: See `load_pretrained`.

    Raises:
        UserError: The two are not the same architecture, or as for `load_pretrained`.
    """
    own, given = _body(network), _body(load_pretrained(source))
    names = sorted(own.keys() | given.keys())
    odd = [n for n in names if n not in own or n not in given or own[n].shape != given[n].shape]
    if odd:
        raise UserError(
            f"{source}: not the weights of the configured backbone ({odd[0]} does not fit); set backbone.name to its "
            "architecture"
        )
    for name, value in given.items():
        own[name].copy_(value)


def _body(network: Any) -> dict[str, Tensor]:
    """Return the tensors of a classifier by name, without those of its head, or heads."""
    classifier = network.get_classifier()
    heads = classifier if isinstance(classifier, tuple) else (classifier,)
    left_out = {id(value) for head in heads for value in head.parameters()}
    return {name: value for name, value in network.state_dict(keep_vars=True).items() if id(value) not in left_out}
