"""Which architecture the tensors of a network are of, and that they are all of it and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pretrain.console import UserError
from transfer.architectures import ARCHITECTURES, CONSTANTS, COUNTER, expected_shapes
from transfer.names import classifier_names, framework_names, merging_from_mmdet, relative_position_index

HEADS = ("fc.", "head.", "classifier.")  # a classifier's or a projector's tensors: left over, and listed


@dataclass(frozen=True)
class Network:
    """The tensors of one network of a file.

    Attributes:
        origin: The file, for messages.
        prefix: What stands before the names in the file.
        framework: Whose names they are.
        branch: "teacher", "student", or "model" where the file holds one network.
        weights: {the framework's name: tensor}.
        own_names: {the framework's name: the name in the file}.
    """

    origin: str
    prefix: str
    framework: str
    branch: str
    weights: dict[str, Tensor]
    own_names: dict[str, str]


def canonical(network: Network, arch: str) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Return the tensors under torchvision's names, the classifier's too; what they were called; what was left over.

    Raises:
        UserError: A constant of a Swin transformer is not what its shape says.
    """
    framework, weights = network.framework, network.weights
    names = framework_names(arch, framework)
    ours = {name: weights[own] for name, own in names.items() if own in weights}
    if framework == "mmdet":
        ours = {name: merging_from_mmdet(name, tensor) for name, tensor in ours.items()}
    classifier = classifier_names(arch, framework)
    if all(own in weights for own in classifier.values()):
        ours |= {name: weights[own] for name, own in classifier.items()}
        names = {**names, **classifier}
    names = {name: own for name, own in names.items() if name in ours}
    taken = set(names.values())
    left_over = []
    for name, tensor in weights.items():
        if name.endswith("relative_position_index"):
            constant = relative_position_index()
            if tensor.numel() != constant.numel() or not torch.equal(tensor.flatten(), constant.flatten()):
                raise UserError(
                    f"{network.origin}: {network.own_names[name]} is not that of a window of 7; what is converted: "
                    f"{', '.join(ARCHITECTURES)}"
                )
        elif name not in taken and not name.endswith(CONSTANTS):
            left_over.append(name)
    return ours, names, left_over


def widened(network: Network) -> tuple[Network, tuple[str, ...]]:
    """Return the network in float32, and a note where it was not.

    Raises:
        UserError: A tensor is not of a floating type, holds NaN or infinity, or is a negative variance.
    """
    kinds = set()
    for name, tensor in network.weights.items():
        if name.endswith((COUNTER, *CONSTANTS)):
            continue
        kind = str(tensor.dtype).removeprefix("torch.")
        if not tensor.is_floating_point():
            problem = f"is of type {kind}, not a floating type; save it unquantised"
        elif not torch.isfinite(tensor).all():
            problem = "holds NaN or infinity; take a checkpoint from before the training diverged"
        elif name.endswith("running_var") and (tensor < 0).any():
            problem = "holds a negative variance; is the checkpoint whole?"
        else:
            kinds.add(kind)
            continue
        raise UserError(f"{network.origin}: {network.own_names[name]} {problem}")
    notes = tuple(f"{kind} turned into float32" for kind in sorted(kinds - {"float32"}))
    weights = {
        name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in network.weights.items()
    }
    return replace(network, weights=weights), notes


def identify(network: Network, told: str | None) -> str:
    """Return the architecture whose tensors these are.

    Raises:
        UserError: They are not exactly those of one that is converted, or of another than was told. The key is named.
    """
    origin, prefix, weights = network.origin, network.prefix, network.weights
    if deep := next(
        (name for name in ("conv1.0.weight", "stem.0.weight", "stem.conv1_1.weight") if name in weights), None
    ):
        raise UserError(
            f"{origin}: {prefix}{deep} belongs to a deep stem (timm's resnet*d and *s, OpenMMLab's ResNetV1d); "
            "Detectron2's BasicStem and MMDetection's ResNet cannot compute it; pretrain the plain architecture"
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items() if not _is_head(name)}
    stem = "stem.conv1.weight" if network.framework == "detectron2" else "conv1.weight"
    if stem in shapes and shapes[stem][1:] != (3, 7, 7):
        raise UserError(
            f"{origin}: {prefix}{stem} is {_times(shapes[stem])}, a CIFAR stem or another input; detectors need the "
            "7x7 ImageNet stem; pretrain with it"
        )
    expected = {arch: _own_shapes(arch, network.framework) for arch in ARCHITECTURES}
    nearest = min(expected, key=lambda arch: _distance(shapes, expected[arch]))
    arch = told or nearest
    if told and nearest != told and _distance(shapes, expected[nearest]) == 0:
        raise UserError(f"{origin}: the tensors are those of {nearest}, not of {told}; leave --arch out")
    converted = f"what is converted: {', '.join(ARCHITECTURES)}"
    for name, shape in expected[arch].items():
        if name not in shapes and not name.endswith(COUNTER):
            raise UserError(f"{origin}: {prefix}{name} is missing, which {arch} has; is the checkpoint whole?")
        if name in shapes and shapes[name] != shape:
            raise UserError(
                f"{origin}: {prefix}{name} is {_times(shapes[name])}, in {arch} it is {_times(shape)}; {converted}"
            )
    if extra := sorted(name for name in set(shapes) - set(expected[arch]) if not _is_own_of_detector(name, network)):
        raise UserError(
            f"{origin}: {prefix}{extra[0]} has no place in {arch} ({len(extra)} such tensors); a detector would drop "
            f"it silently; {converted}"
        )
    return arch


def _own_shapes(arch: str, framework: str) -> dict[str, tuple[int, ...]]:
    names = framework_names(arch, framework)
    return {names[name]: shape for name, shape in expected_shapes(arch).items()}


def _is_head(name: str) -> bool:
    return name.startswith(HEADS) or name.endswith(CONSTANTS)


def _is_own_of_detector(name: str, network: Network) -> bool:
    """Return whether a tensor belongs to a detector alone: the extra norm of C4, the norms of Swin's first stages."""
    return network.framework == "detectron2" and re.match(r"res5\.norm\.|norm[012]\.", name) is not None


def _distance(shapes: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> int:
    """Count the tensors that two networks do not share; a BatchNorm's counter does not count."""
    ours = {item for item in shapes.items() if not item[0].endswith(COUNTER)}
    theirs = {item for item in expected.items() if not item[0].endswith(COUNTER)}
    return len(ours ^ theirs)


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
