"""From a pretrained backbone to a detector's exact parameter names, with nothing lost on the way.

Detectron2 and MMDetection both load by name and only warn about a name that does not fit: a wrong prefix trains a
random backbone without an error. So the names written here are the exact ones, and a tensor left over or missing
ends the conversion.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretrain.backbones import BackboneCard
from pretrain.console import UserError, did_you_mean
from pretrain.files import atomic_path, read_json, sha256, write_json
from transfer.architectures import COUNTER, expected_shapes
from transfer.layouts import HEAD, Source, read_file, read_source

TARGETS = ("detectron2", "mmdet", "torchvision", "timm")
HEADS = ("c4", "fpn")


@dataclass(frozen=True)
class Report:
    """Where every tensor of the source went.

    Attributes:
        loaded: {torchvision name: name in the target}.
        left_over: Names that the target has no use for: the classifier, `fc.*`, and nothing else.
        missing: Names that the architecture has and the source lacks: BatchNorm counters at most, which have no
            effect on what the network computes.
        other_parts: {prefix: number of tensors} that lie in the file beside the chosen backbone.
        layout: What was found around the source's names.
        preprocessing_known: False where no card came with the source and torchvision's preprocessing is assumed.
    """

    loaded: dict[str, str]
    left_over: tuple[str, ...]
    missing: tuple[str, ...]
    other_parts: dict[str, int]
    layout: str
    preprocessing_known: bool


@dataclass(frozen=True)
class Converted:
    """A backbone under a target's names.

    Attributes:
        state_dict: {exact parameter name in the target: tensor}.
        card: Architecture and preprocessing.
        report: Where every tensor went.
        target: "detectron2", "mmdet", "torchvision" or "timm".
        head: "c4": the last stage belongs to the RoI head; "fpn": all stages belong to the backbone.
        source: Where the weights came from, a path.
    """

    state_dict: dict[str, Tensor]
    card: BackboneCard
    report: Report
    target: str = "detectron2"
    head: str = "c4"
    source: str = ""


def convert(
    source: str | Path | Mapping[str, Any],
    target: str = "detectron2",
    arch: str | None = None,
    branch: str | None = None,
    head: str = "c4",
) -> Converted:
    """Rename a backbone's tensors to the target's exact parameter names.

    Args:
        source: An exported backbone, any checkpoint of `transfer.layouts`, or a state dict.
        target: "detectron2", "mmdet", "torchvision" or "timm".
        arch: Architecture; told from the shapes where it is None.
        branch: "teacher" or "student", for a checkpoint that holds both.
        head: "c4" or "fpn": which detector the names are for; the last two targets take no notice.

    Raises:
        UserError: The source cannot be read, is no plain ResNet, or a tensor has no place in the target.
    """
    if target not in TARGETS:
        raise UserError(f"target '{target}' is unknown{did_you_mean(target, [*TARGETS])}")
    if head not in HEADS:
        raise UserError(f"head '{head}' is unknown{did_you_mean(head, [*HEADS])}")
    return _convert(read_source(source, arch, branch), target, head)


def _convert(source: Source, target: str, head: str) -> Converted:
    expected = expected_shapes(source.card.arch)
    keeps_classifier = target in ("torchvision", "timm")
    loaded: dict[str, str] = {}
    left_over = []
    for name in source.weights:
        if name in expected or (keeps_classifier and name.startswith(HEAD)):
            loaded[name] = target_name(name, target, head)
        else:
            left_over.append(name)
    missing = tuple(name for name in expected if name not in source.weights)
    # read_source has refused all of these already; a converter that trusted it blindly would fail in silence.
    wrong = [name for name in left_over if not name.startswith(HEAD)]
    wrong += [name for name in missing if not name.endswith(COUNTER)]
    if wrong or len(set(loaded.values())) != len(loaded):
        raise UserError(f"{source.origin}: no exact place in {target} for {', '.join(wrong) or 'every tensor'}")
    state_dict = {new: source.weights[name].detach().cpu().contiguous() for name, new in loaded.items()}
    report = Report(loaded, tuple(left_over), missing, source.other_parts, source.layout, source.preprocessing_known)
    return Converted(state_dict, source.card, report, target, head, source.origin)


def target_name(name: str, target: str, head: str) -> str:
    """Return the target's name for a torchvision name.

    Detectron2: no "layer" in the name: `stem.`; layerN: res(N+1); bnN: convN.norm; downsample.0 and .1: shortcut and
    shortcut.norm (modeling/backbone/resnet.py of v0.6). The C4 detectors hold the last stage in the RoI head.
    """
    last_stage = name.startswith("layer4.")
    if target == "mmdet":
        return f"roi_head.shared_head.{name}" if head == "c4" and last_stage else f"backbone.{name}"
    if target != "detectron2":
        return name
    new = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", name)
    new = new.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
    new = re.sub(r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}.", new)
    if "layer" not in name:
        new = f"stem.{new}"
    if head == "fpn":
        return f"backbone.bottom_up.{new}"
    return f"roi_heads.{new}" if last_stage else f"backbone.{new}"


def save(converted: Converted, out_path: str | Path, verification: dict[str, Any] | None = None) -> Path:
    """Write OUT.pth (a plain dict of tensors) and OUT.json (card, target, head, source), each atomically, JSON last.

    Args:
        converted: What `convert` returned.
        out_path: The .pth file; a missing suffix is added.
        verification: A `Verification` as a dictionary, where the parity has been shown.

    Returns:
        The path of the .pth file.
    """
    path = Path(out_path)
    if path.suffix not in ("", ".pth"):
        raise UserError(f"{path}: the converted file ends in .pth")
    path = path.with_suffix(".pth")
    with atomic_path(path) as temporary:
        torch.save(converted.state_dict, temporary)
    values = {
        **asdict(converted.card),
        "target": converted.target,
        "head": converted.head,
        "source": converted.source,
        "verification": verification,
        "weights_sha256": sha256(path),
    }
    write_json(path.with_suffix(".json"), values)
    return path


def read_converted(path: str | Path, target: str) -> Converted:
    """Read OUT.pth and OUT.json again, checked against the digest and against the framework that wants them.

    Raises:
        UserError: A file is missing or damaged, or was converted for another framework.
    """
    path = Path(path)
    if path.suffix != ".pth" or not path.is_file():
        raise UserError(f"{path}: no such converted file (.pth); make it with {_tool(target)} CHECKPOINT OUT.pth")
    values = read_json(path.with_suffix(".json"))
    extra = {"target", "head", "source", "verification", "weights_sha256"}
    card_fields = {entry.name for entry in fields(BackboneCard)}
    if not isinstance(values, dict) or set(values) != extra | card_fields:
        raise UserError(f"{path.with_suffix('.json')}: not written by {_tool(target)}; convert the checkpoint again")
    if values["target"] != target:
        raise UserError(f"{path}: converted for {values['target']}; convert {values['source']} with {_tool(target)}")
    if sha256(path) != values["weights_sha256"]:
        raise UserError(f"{path}: its SHA-256 is not the one in its JSON; convert {values['source']} again")
    entries: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in card_fields
    }
    card = BackboneCard(**entries)
    report = Report({}, (), (), {}, "converted", True)
    return Converted(read_file(path), card, report, target, values["head"], values["source"])


def _tool(target: str) -> str:
    return "tools/convert_to_mmdet.py" if target == "mmdet" else "tools/convert_to_d2.py"
