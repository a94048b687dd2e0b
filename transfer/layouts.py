"""Source layouts: whatever wrapped the ResNet, bring its weights back to torchvision's names.

For ResNet-18/34/50/101/152 torchvision and timm use the same names, so these are the canonical ones here. The wrappers
that were met in the wild: `module.` (DDP), `backbone.` (OpenMMLab, solo-learn), `module.encoder_q.` (MoCo),
`backbone_q.` and `backbone_k.` (AutoMix in OpenMixup), `timm_model.`, `_feature_blocks.` (VISSL), each bare or under
a key such as `state_dict` or `model`.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pretrain.backbones import BackboneCard, read_card, read_weights
from pretrain.console import UserError, did_you_mean
from pretrain.files import sha256
from transfer.architectures import COUNTER, RESNETS, expected_shapes

CONTAINERS = ("state_dict", "model", "model_state_dict", "net")
HEAD = "fc."

STUDENT = re.compile(r"(^|\.)(backbone_q|encoder_q|student|online_encoder)\.$")
TEACHER = re.compile(r"(^|\.)(backbone_k|encoder_k|teacher|momentum_encoder|ema)\.$")
# Which branch is meant where a checkpoint holds both and nobody says: AutoMix evaluates the momentum network, MoCo
# transfers the query encoder.
USUAL_BRANCH = (("backbone_k.", "teacher"), ("encoder_q.", "student"))


@dataclass(frozen=True)
class Source:
    """A backbone under torchvision's names.

    Attributes:
        weights: {torchvision name: tensor}, all of the architecture's and the classifier's `fc.*` if there is one.
        card: Architecture and preprocessing. For a foreign file, the torchvision defaults.
        origin: Where it came from, for messages: a path.
        layout: What was found around the names, e.g. "backbone_k. under state_dict".
        other_parts: {prefix: number of tensors} of what lies in the file beside the chosen backbone.
        preprocessing_known: False where the card's preprocessing is assumed.
    """

    weights: dict[str, Tensor]
    card: BackboneCard
    origin: str
    layout: str
    other_parts: dict[str, int] = field(default_factory=dict)
    preprocessing_known: bool = True


def read_source(source: str | Path | Mapping[str, Any], arch: str | None = None, branch: str | None = None) -> Source:
    """Read a checkpoint and bring it to torchvision's names.

    Args:
        source: A .safetensors or torch file, or what such a file holds.
        arch: Architecture, e.g. "resnet50"; told from the tensors' shapes where it is None.
        branch: "teacher" or "student", for a checkpoint that holds both.

    Raises:
        UserError: The file cannot be read safely, or is no ResNet that a detector's backbone reproduces.
    """
    if arch is not None and arch not in RESNETS:
        raise UserError(f"--arch {arch}: not an architecture that is converted{did_you_mean(arch, [*RESNETS])}")
    card: BackboneCard | None = None
    if isinstance(source, Mapping):
        origin, content = "state dict", dict(source)
    else:
        path = Path(source)
        origin, content = str(path), {}
        if path.suffix == ".safetensors" and path.with_suffix(".json").is_file():
            card, content = read_card(path), dict(read_weights(path))
            _check_card(card, origin, branch)
        else:
            content = read_file(path)
    tensors, container = _unwrap(content, origin)
    prefix = _choose_prefix(tensors, origin, None if card else branch)
    weights = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    others: dict[str, int] = {}
    for name in tensors:
        if not name.startswith(prefix):
            part = name.split(".")[0] + "."
            others[part] = others.get(part, 0) + 1
    found = _architecture(weights, arch or (card.arch if card else None), origin, prefix)
    if card and arch and card.arch != arch:
        raise UserError(f"{origin}: its card says {card.arch}, --arch says {arch}; leave --arch out")
    layout = (f"{prefix or 'bare names'}" + (f" under {container}" if container else "")).strip()
    known = card is not None
    if card is None:
        digest = "" if isinstance(source, Mapping) else sha256(source)
        told = "teacher" if TEACHER.search(prefix) else "student" if STUDENT.search(prefix) else "model"
        card = BackboneCard(arch=found, classes=(), branch=told, sha256=digest)
    return Source(weights, card, origin, layout, others, known)


def read_file(path: Path) -> dict[str, Any]:
    """Read a .safetensors or torch file without running any code that it may carry.

    Raises:
        UserError: It is missing, damaged, or needs more than tensors and plain values; the blocked global is named.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from error
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL (\w[\w.]*)|Unsupported class (\w[\w.]*)", str(error))
        if not blocked:
            raise UserError(f"{path}: not a torch checkpoint, or a damaged one; fetch it again") from error
        raise UserError(
            f"{path}: refused, because reading it would run {blocked[1] or blocked[2]}; where it was made, save the "
            "state_dict alone (torch.save(model.state_dict(), PATH)) and convert that"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a torch checkpoint, or a damaged one ({reason}); fetch it again") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a state dict; save model.state_dict()")
    return dict(content)


def _check_card(card: BackboneCard, origin: str, branch: str | None) -> None:
    if card.stem != "imagenet":
        raise UserError(f"{origin}: its card says stem '{card.stem}'; detectors need the 7x7 ImageNet stem")
    if card.arch not in RESNETS:
        raise UserError(f"{origin}: its card says {card.arch}; what is converted: {', '.join(RESNETS)}")
    if branch and card.branch in ("teacher", "student") and card.branch != branch:
        raise UserError(f"{origin}: its card says branch {card.branch}, --branch says {branch}; name the other file")


def _unwrap(content: dict[str, Any], origin: str) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of the checkpoint and the keys that they lay under, e.g. "state_dict"."""
    under = []
    while not any(isinstance(value, Tensor) for value in content.values()):
        inner = next((key for key in CONTAINERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            keys = ", ".join(str(key) for key in list(content)[:6]) or "nothing"
            raise UserError(f"{origin}: no weights found under {' or '.join(CONTAINERS)}; it holds {keys}")
        content = dict(content[inner])
        under.append(inner)
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}, ".".join(under)


def _choose_prefix(tensors: dict[str, Tensor], origin: str, branch: str | None) -> str:
    """Return what stands before torchvision's names: "" or a prefix that ends in a dot."""
    marker = re.compile(r"^(|.*\.)layer[1-4]\.\d+\.conv1\.weight$")
    found = sorted({match[1] for name in tensors if (match := marker.match(name))})
    if not found:
        names = ", ".join(list(tensors)[:4])
        raise UserError(f"{origin}: no ResNet in it: no key ends in layer1.0.conv1.weight (its keys: {names}, ...)")
    by_branch = {
        "student": [prefix for prefix in found if STUDENT.search(prefix)],
        "teacher": [prefix for prefix in found if TEACHER.search(prefix)],
    }
    if branch is not None and branch not in by_branch:
        raise UserError(f"--branch {branch}: it is teacher or student")
    if branch:
        if len(by_branch[branch]) != 1:
            raise UserError(f"{origin}: no {branch} in it; it holds {_listed(found)}; leave --branch out")
        return by_branch[branch][0]
    if len(found) == 1:
        return found[0]
    for ending, usual in USUAL_BRANCH:
        if len(matching := [prefix for prefix in by_branch[usual] if prefix.endswith(ending)]) == 1:
            return matching[0]
    raise UserError(f"{origin}: several backbones in it ({_listed(found)}); choose with --branch teacher or student")


def _listed(prefixes: list[str]) -> str:
    return ", ".join(prefix or "bare names" for prefix in prefixes)


def _architecture(weights: dict[str, Tensor], told: str | None, origin: str, prefix: str) -> str:
    """Return the architecture whose tensors these are.

    Raises:
        UserError: They are not exactly those of a plain ResNet, or of another one than was told. The key is named.
    """
    stem = weights.get("conv1.weight")
    if "conv1.0.weight" in weights:
        raise UserError(
            f"{origin}: {prefix}conv1.0.weight belongs to a deep stem (timm's resnet*d and *s); Detectron2's BasicStem "
            "and MMDetection's ResNet cannot compute it; pretrain the plain architecture"
        )
    if stem is not None and tuple(stem.shape[1:]) != (3, 7, 7):
        raise UserError(
            f"{origin}: {prefix}conv1.weight is {'x'.join(map(str, stem.shape))}, a CIFAR stem or another input; "
            "detectors need the 7x7 ImageNet stem; pretrain with it"
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items() if not name.startswith(HEAD)}
    nearest = min(RESNETS, key=lambda name: _distance(shapes, expected_shapes(name)))
    arch = told if told in RESNETS else nearest
    expected = expected_shapes(arch)
    if told and nearest != told and _distance(shapes, expected_shapes(nearest)) == 0:
        raise UserError(f"{origin}: the tensors are those of {nearest}, not of {told}; leave --arch out")
    for name, shape in expected.items():
        if name not in shapes and not name.endswith(COUNTER):
            raise UserError(f"{origin}: {prefix}{name} is missing, which {arch} has; is the checkpoint whole?")
        if name in shapes and shapes[name] != shape:
            raise UserError(
                f"{origin}: {prefix}{name} is {'x'.join(map(str, shapes[name]))}, in {arch} it is "
                f"{'x'.join(map(str, shape))}; what is converted: {', '.join(RESNETS)}"
            )
    if extra := sorted(set(shapes) - set(expected)):
        raise UserError(
            f"{origin}: {prefix}{extra[0]} has no place in {arch} ({len(extra)} such tensors); a detector would drop "
            f"it silently; what is converted: {', '.join(RESNETS)}"
        )
    return arch


def _distance(shapes: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> int:
    """Count the tensors that two networks do not share; a BatchNorm's counter does not count."""
    ours = {item for item in shapes.items() if not item[0].endswith(COUNTER)}
    theirs = {item for item in expected.items() if not item[0].endswith(COUNTER)}
    return len(ours ^ theirs)
