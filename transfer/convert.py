"""From a pretrained backbone to a detector's exact parameter names and back, with nothing lost on the way.

Detectron2 and MMDetection both load by name and only warn about a name that does not fit: a wrong prefix trains a
random backbone without an error. So the names written here are the exact ones, and a tensor left over or missing
ends the conversion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from pretrain.backbones import BackboneCard
from pretrain.console import UserError, did_you_mean
from transfer.architectures import COUNTER, RESNETS, SWIN, expected_shapes
from transfer.identify import HEADS as CLASSIFIERS
from transfer.layouts import Source, read_source
from transfer.names import classifier_names, framework_names, merging_to_mmdet

TARGETS = ("detectron2", "mmdet", "torchvision", "timm")
HEADS = ("c4", "fpn")


@dataclass(frozen=True)
class Report:
    """Where every tensor of the source went.

    Attributes:
        loaded: {name in the file: name in the target}.
        left_over: Names that the target has no use for: a classifier or a projector, a detector's own norms, and
            nothing else.
        missing: Names that the architecture has and the source lacks: BatchNorm counters at most, which have no
            effect on what the network computes.
        other_parts: {prefix: number of tensors} that lie in the file beside the chosen backbone.
        layout: What was found around the source's names.
        preprocessing_known: False where no card came with the source and torchvision's preprocessing is assumed.
        notes: What was done to the numbers, e.g. that float16 was widened.
    """

    loaded: dict[str, str]
    left_over: tuple[str, ...]
    missing: tuple[str, ...]
    other_parts: dict[str, int]
    layout: str
    preprocessing_known: bool
    notes: tuple[str, ...] = ()


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

    @property
    def start(self) -> str:
        """What a fine-tuning starts from: the method and branch of the weights, e.g. "automix teacher"."""
        branch = self.card.branch if self.card.branch in ("teacher", "student") else ""
        return f"{self.card.method or Path(self.source).stem} {branch}".strip()


def convert(
    source: str | Path | Mapping[str, Any] | Source,
    target: str = "detectron2",
    arch: str | None = None,
    branch: str | None = None,
    head: str | None = None,
    trust: bool = False,
) -> Converted:
    """Rename a backbone's tensors to the target's exact parameter names.

    Args:
        source: Any checkpoint of `transfer.layouts`: an exported backbone, a foreign file, a detector, a state dict; or
            what `read_source` returned.
        target: "detectron2", "mmdet", "torchvision" or "timm"; to the last two the classifier goes along.
        arch: Architecture; told from the shapes where it is None.
        branch: "teacher" or "student", for a checkpoint that holds both.
        head: "c4" or "fpn": which detector the names are for. None: "c4" for ResNets, "fpn" for Swin transformers, of
            which there is no C4 detector. The last two targets take no notice.
        trust: Whether code that the file carries may run.

    Raises:
        UserError: The source cannot be read, is no plain backbone, or a tensor has no place in the target.
    """
    if target not in TARGETS:
        raise UserError(f"target '{target}' is unknown{did_you_mean(target, [*TARGETS])}")
    if head not in (None, *HEADS):
        raise UserError(f"head '{head}' is unknown{did_you_mean(str(head), [*HEADS])}")
    if not isinstance(source, Source):
        source = read_source(source, arch, branch, trust)
    if source.card.arch == SWIN and head == "c4":
        raise UserError(f"{source.origin}: a Swin transformer has no C4 detector; convert it with --head fpn")
    shape = RESNETS.get(source.card.arch)
    if target == "detectron2" and shape and shape.base_channels != 64:
        raise UserError(
            f"{source.origin}: the first stage of {source.card.arch} has {shape.base_channels} channels, and "
            f"Detectron2 asserts 64 in a ResNet-{shape.depth}; fine-tune it in MMDetection: tools/convert_to_mmdet.py"
        )
    return _convert(source, target, head or ("fpn" if source.card.arch == SWIN else "c4"))


def with_classifier(source: Source, other: Source) -> Source:
    """Return a backbone with the classifier of another, e.g. a fine-tuned one with that of the network it started from.

    Raises:
        UserError: The other one has no classifier, or is another architecture.
    """
    if source.card.arch != other.card.arch:
        raise UserError(f"{other.origin}: it is {other.card.arch}, and {source.origin} is {source.card.arch}")
    own = [name for name in classifier_names(other.card.arch, "torchvision") if name in other.weights]
    if not own:
        raise UserError(f"{other.origin}: no classifier in it; name the checkpoint that the fine-tuning started from")
    weights = {**source.weights, **{name: other.weights[name] for name in own}}
    classes = other.card.classes or tuple(str(index) for index in range(len(other.weights[own[0]])))
    names = {**source.names, **{name: f"{other.names[name]} of {other.origin}" for name in own}}
    return replace(source, weights=weights, names=names, card=replace(source.card, classes=classes))


def _convert(source: Source, target: str, head: str) -> Converted:
    arch, origin = source.card.arch, source.origin
    theirs = {**framework_names(arch, target, head), **classifier_names(arch, target)}
    loaded = {source.names[name]: theirs[name] for name in source.weights if name in theirs}
    left_over = source.left_over + tuple(source.names[name] for name in source.weights if name not in theirs)
    missing = tuple(name for name in expected_shapes(arch) if name not in source.weights)
    # read_source has refused all of these already; a converter that trusted it blindly would fail in silence.
    wrong = [name for name in source.weights if name not in theirs and not name.startswith(CLASSIFIERS)]
    wrong += [name for name in missing if not name.endswith(COUNTER)]
    if wrong or len(set(loaded.values())) != len(loaded):
        raise UserError(f"{origin}: no exact place in {target} for {', '.join(wrong) or 'every tensor'}")
    state_dict = {}
    for name, tensor in source.weights.items():
        if name in theirs:
            placed = merging_to_mmdet(name, tensor) if target == "mmdet" and arch == SWIN else tensor
            state_dict[theirs[name]] = placed.detach().cpu().contiguous()
    report = Report(
        loaded, left_over, missing, source.other_parts, source.layout, source.preprocessing_known, source.notes
    )
    return Converted(state_dict, source.card, report, target, head, origin)
