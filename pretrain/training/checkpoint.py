"""The training state: what a run needs to go on from where it stopped, bit for bit.

Order, augmentation and mixing follow from (seed, step), so no state of a random generator has to be kept.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from pretrain.console import UserError
from pretrain.files import atomic_path

FILE_NAME = "state.pth"


def save_state(
    folder: Path, method: nn.Module, optimizer: Optimizer, step: int, settings: dict[str, Any], elapsed: float
) -> None:
    """Write FOLDER/state.pth atomically.

    Args:
        folder: The run's folder.
        method: Whose whole state is kept, teacher and batch-norm statistics included.
        optimizer: Whose state is kept.
        step: Steps done.
        settings: The run's settings as plain values; a resume compares them.
        elapsed: Training seconds so far, over all sittings.
    """
    state = {
        "method": method.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "settings": settings,
        "elapsed": elapsed,
    }
    with atomic_path(folder / FILE_NAME) as temporary:
        torch.save(state, temporary)


def load_state(
    folder: Path, method: nn.Module, optimizer: Optimizer, settings: dict[str, Any]
) -> tuple[int, float] | None:
    """Put the state of FOLDER/state.pth into `method` and `optimizer`.

    Returns:
        Steps done and training seconds so far; None where there is no state.

    Raises:
        UserError: The file is damaged, or belongs to a run with other settings.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: not a training state ({error}); remove it to start this run anew") from error
    if different := _differences(state["settings"], settings):
        raise UserError(
            f"{path}: belongs to a run with other settings ({'; '.join(different)}); "
            "use the old settings, another --work-dir, or remove the folder"
        )
    method.load_state_dict(state["method"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["elapsed"])


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key in sorted(set(old) | set(new)):
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            found += _differences(before, now, f"{prefix}{key}.")
        elif before != now:
            found.append(f"{prefix}{key} was {before!r}, is {now!r}")
    return found
