"""Loading into a detector by exact names, with every tensor accounted for: a converted backbone, or the whole.

Detectron2's and mmengine's own checkpointers only warn about names that do not fit; weights in the wrong names then
train a random backbone without an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.console import UserError
from transfer.architectures import CONSTANTS, COUNTER
from transfer.files import TOOLS
from transfer.names import BACKBONE, PYRAMID, RES5

# What a detector adds to the pretrained network: C4's extra norm, and the norms of Swin's first three stages.
OWN_OF_DETECTOR = (
    RES5["detectron2"] + "norm.",
    *(f"{prefix}norm{stage}." for prefix in PYRAMID.values() for stage in range(3)),
)
WITHOUT_EFFECT = (COUNTER, *CONSTANTS)


def load_exact(model: nn.Module, weights: Mapping[str, Tensor], framework: str, origin: str = "weights") -> int:
    """Load a converted backbone into a detector; the rest of the detector keeps its initial values.

    BatchNorm counters have no effect and may be absent on either side (a FrozenBatchNorm has none); the constants of a
    Swin transformer are the detector's own.

    Args:
        model: The detector.
        weights: {exact name: tensor}.
        framework: "detectron2" or "mmdet".
        origin: Where the weights are from, for messages.

    Returns:
        The number of tensors loaded.

    Raises:
        UserError: A tensor of the file has no place, one of the backbone is not in the file, or a shape differs.
    """
    own = model.state_dict()
    given_head, own_head = _head(weights, framework), _head(own, framework)
    if given_head != own_head:
        raise UserError(
            f"{origin}: converted with --head {given_head}, but the config builds a {own_head} detector; convert the "
            f"checkpoint again: python {TOOLS[framework]} CHECKPOINT OUT.pth --head {own_head}"
        )
    prefixes = (PYRAMID[framework],) if own_head == "fpn" else (BACKBONE[framework], RES5[framework])
    wanted = [name for name in own if name.startswith(prefixes) and not name.startswith(OWN_OF_DETECTOR)]
    for name in wanted:
        if name not in weights and not name.endswith(WITHOUT_EFFECT):
            raise UserError(f"{origin}: {name} is not in the file, and would stay random; convert the checkpoint again")
    fitting = {}
    for name, tensor in weights.items():
        if name not in own:
            if name.endswith(WITHOUT_EFFECT):
                continue
            raise UserError(
                f"{origin}: {name} has no place in the detector that the config builds; is it the same architecture?"
            )
        if own[name].shape != tensor.shape:
            raise UserError(
                f"{origin}: {name} is {tuple(tensor.shape)}, the detector has {tuple(own[name].shape)}; the config "
                "builds another architecture"
            )
        fitting[name] = tensor
    model.load_state_dict(fitting, strict=False)
    return len(fitting)


def read_checkpoint(path: str | Path, *keys: str, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint of a fine-tuning without running code that it may carry.

    Args:
        path: The file.
        keys: What it has to hold.
        map_location: As for torch.load.

    Raises:
        UserError: It is no such checkpoint.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        for key in keys:
            content[key]
    except Exception as error:  # whatever torch says of a file that is none of its own
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a checkpoint of this tool's runs ({reason})") from error
    return content


def load_whole(model: nn.Module, weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Load all tensors of a detector.

    Raises:
        UserError: They are another detector's.
    """
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    other = {name: tensor.shape for name, tensor in weights.items()}
    if differing := [name for name in {**own, **other} if own.get(name) != other.get(name)]:
        raise UserError(
            f"{path}: another detector than the config builds; {len(differing)} tensors differ, the first "
            f"{differing[0]}"
        )
    model.load_state_dict(weights)


def _head(names: Iterable[str], framework: str) -> str:
    return "c4" if any(name.startswith(RES5[framework]) for name in names) else "fpn"
