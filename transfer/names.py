"""What each framework calls the tensors of a backbone.

The canonical names are torchvision's. A map is made from the canonical names of an architecture, so that it can be read
in both directions and cannot meet a name that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from transfer.architectures import SWIN, expected_shapes

BACKBONE = {"detectron2": "backbone.", "mmdet": "backbone."}
PYRAMID = {"detectron2": "backbone.bottom_up.", "mmdet": "backbone."}
LAST_STAGE = {"detectron2": "roi_heads.", "mmdet": "roi_head.shared_head."}
RES5 = {"detectron2": LAST_STAGE["detectron2"] + "res5.", "mmdet": LAST_STAGE["mmdet"] + "layer4."}
CLASSIFIERS = {"resnet": ("fc.weight", "fc.bias"), "swin": ("head.weight", "head.bias")}


@cache
def framework_names(arch: str, framework: str, head: str | None = None) -> dict[str, str]:
    """Return {torchvision name: the framework's name} of an architecture without its classifier.

    Detectron2's ResNets (modeling/backbone/resnet.py of v0.6): no "layer" in the name: `stem.`; layerN: res(N+1); bnN:
    convN.norm; downsample.0 and .1: shortcut and shortcut.norm. MMDetection's have torchvision's names.

    Args:
        arch: One of `ARCHITECTURES`.
        framework: "torchvision", "timm", "detectron2", "mmdet", or "microsoft" for the Swin authors' code.
        head: None for the names within the backbone; "c4" or "fpn" for those within a detector: the C4 detectors hold
            the last stage in the RoI head.
    """
    rename = _swin(framework) if arch == SWIN else _detectron2_resnet if framework == "detectron2" else _same
    names = {name: rename(name) for name in expected_shapes(arch)}
    if head is None or framework not in BACKBONE:
        return names
    within = PYRAMID if head == "fpn" else BACKBONE
    last = LAST_STAGE[framework] if head == "c4" else within[framework]
    return {name: (last if name.startswith("layer4.") else within[framework]) + inner for name, inner in names.items()}


def classifier_names(arch: str, framework: str) -> dict[str, str]:
    """Return {torchvision name: the framework's name} of the classifier; empty for the detectors."""
    if framework in ("detectron2", "mmdet"):
        return {}
    names = CLASSIFIERS["swin" if arch == SWIN else "resnet"]
    return {name: name.replace("head.", "head.fc.") if framework == "timm" else name for name in names}


def _same(name: str) -> str:
    return name


def _detectron2_resnet(name: str) -> str:
    new = re.sub(r"\bbn(\d)\.", r"conv\1.norm.", name)
    new = new.replace("downsample.0.", "shortcut.").replace("downsample.1.", "shortcut.norm.")
    new = re.sub(r"^layer(\d)\.", lambda match: f"res{int(match[1]) + 1}.", new)
    return new if "layer" in name else f"stem.{new}"


@dataclass(frozen=True)
class SwinNames:
    """How a library names the parts of a Swin transformer.

    Attributes:
        patch: Convolution of the patches.
        patch_norm: The norm behind it.
        stage: The word before the number of a stage, from 0.
        merging: What is added to the number of the stage in front of a patch merging, where the library puts it: 0 at
            the end of that stage, 1 at the start of the next.
        inner: {torchvision's word within a block: the library's}.
        norm: The norm behind the last stage.
    """

    patch: str
    patch_norm: str
    stage: str
    merging: int
    inner: dict[str, str]
    norm: str


_MICROSOFT = SwinNames(
    "patch_embed.proj", "patch_embed.norm", "layers", 0, {"mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2"}, "norm"
)
SWIN_NAMES = {
    "microsoft": _MICROSOFT,
    # A detector norms each stage it uses. The norm of the classifier belongs to the last; the others start fresh.
    "detectron2": SwinNames("patch_embed.proj", "patch_embed.norm", "layers", 0, _MICROSOFT.inner, "norm3"),
    "timm": SwinNames("patch_embed.proj", "patch_embed.norm", "layers", 1, _MICROSOFT.inner, "norm"),
    "mmdet": SwinNames(
        "patch_embed.projection",
        "patch_embed.norm",
        "stages",
        0,
        {"attn": "attn.w_msa", "mlp.0": "ffn.layers.0.0", "mlp.3": "ffn.layers.1"},
        "norm3",
    ),
}  # fmt: skip


def _swin(framework: str) -> Callable[[str], str]:
    if framework == "torchvision":
        return _same
    words = SWIN_NAMES[framework]

    def rename(name: str) -> str:
        if name.startswith("norm."):
            return name.replace("norm", words.norm, 1)
        position, rest = re.fullmatch(r"features\.(\d+)\.(.*)", name).groups()  # type: ignore[union-attr]
        stage, merges = divmod(int(position) - 1, 2)  # features: 0 patches, then a stage and a merging in turns
        if position == "0":
            return (
                rest.replace("0.", f"{words.patch}.", 1)
                if rest[0] == "0"
                else rest.replace("2.", f"{words.patch_norm}.", 1)
            )
        if merges:
            return f"{words.stage}.{stage + words.merging}.downsample.{rest}"
        for theirs, ours in words.inner.items():
            rest = re.sub(rf"(?<=\.){re.escape(theirs)}(?=\.)", ours, rest)
        return f"{words.stage}.{stage}.blocks.{rest}"

    return rename


def merging_to_mmdet(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor of a patch merging in the order in which mmdet's and mmpretrain's `nn.Unfold` lists the inputs.

    Four neighbouring patches of C channels are merged. torchvision, timm and the authors stack them patch by patch in
    the order top left, bottom left, top right, bottom right; nn.Unfold channel by channel, in the order of reading.

    Args:
        name: Canonical name; tensors other than `reduction.weight` (2C, 4C), `norm.weight` and `norm.bias` (4C) of a
            merging come back as they are.
        tensor: In torchvision's order.
    """
    if not _is_merging(name):
        return tensor
    parts = tensor.unflatten(-1, (4, -1))[..., [0, 2, 1, 3], :]
    return parts.transpose(-1, -2).flatten(-2).contiguous()


def merging_from_mmdet(name: str, tensor: Tensor) -> Tensor:
    """Return the tensor in torchvision's order: the inverse of `merging_to_mmdet`."""
    if not _is_merging(name):
        return tensor
    parts = tensor.unflatten(-1, (-1, 4)).transpose(-1, -2)
    return parts[..., [0, 2, 1, 3], :].flatten(-2).contiguous()


def _is_merging(name: str) -> bool:
    return re.match(r"features\.[246]\.", name) is not None


def relative_position_index(window: int = 7) -> Tensor:
    """Return the constant (window**2, window**2) int64 by which a Swin block looks up its position biases.

    Row and column of the difference between two places of a window, counted from 0, in one number.
    """
    places = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    difference = places[:, None] - places[None, :] + window - 1
    return difference[..., 0] * (2 * window - 1) + difference[..., 1]
