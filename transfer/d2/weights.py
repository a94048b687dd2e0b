"""A whole detector from a checkpoint of a run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from pretrain.console import UserError


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
