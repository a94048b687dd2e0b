"""Loading by exact names, with every tensor accounted for.

Detectron2's own checkpointer guesses names and only warns about the rest; weights in the wrong names then train a
random backbone without an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pretrain.console import UserError
from transfer.architectures import CONSTANTS, COUNTER

FPN_PREFIX = "backbone.bottom_up."
C4_PREFIXES = ("backbone.", "roi_heads.res5.")
# What a detector adds to the pretrained network: C4's extra norm, and the norms of Swin's first three stages.
OWN_OF_DETECTOR = ("roi_heads.res5.norm.", *(f"{FPN_PREFIX}norm{stage}." for stage in range(3)))
WITHOUT_EFFECT = (COUNTER, *CONSTANTS)


def load_exact(model: nn.Module, weights: Mapping[str, Tensor], origin: str = "weights") -> int:
    """Load a converted backbone into a Detectron2 detector; the rest of the detector keeps its initial values.

    BatchNorm counters have no effect and may be absent on either side (a FrozenBatchNorm has none); the constants of a
    Swin transformer are the detector's own.

    Returns:
        The number of tensors loaded.

    Raises:
        UserError: A tensor of the file has no place, one of the backbone is not in the file, or a shape differs.
    """
    own = model.state_dict()
    given_head = "fpn" if any(name.startswith(FPN_PREFIX) for name in weights) else "c4"
    own_head = "fpn" if any(name.startswith(FPN_PREFIX) for name in own) else "c4"
    if given_head != own_head:
        raise UserError(
            f"{origin}: converted with --head {given_head}, but the config builds a {own_head} detector; convert the "
            f"checkpoint again: python tools/convert_to_d2.py CHECKPOINT OUT.pth --head {own_head}"
        )
    prefixes = (FPN_PREFIX,) if own_head == "fpn" else C4_PREFIXES
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


def load_detector(model: nn.Module, path: Path) -> int:
    """Load a whole detector from a checkpoint of a run; return the number of iterations behind it.

    Raises:
        UserError: It is no such checkpoint, or one of another detector.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        weights, iterations = content["model"], int(content["iteration"]) + 1
    except Exception as error:  # whatever torch says of a file that is none of its own
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: not a checkpoint of this tool's runs ({reason})") from error
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    other = {name: tensor.shape for name, tensor in weights.items()}
    if differing := [name for name in {**own, **other} if own.get(name) != other.get(name)]:
        raise UserError(
            f"{path}: another detector than the config builds; {len(differing)} tensors differ, the first "
            f"{differing[0]}"
        )
    model.load_state_dict(weights)
    return iterations
