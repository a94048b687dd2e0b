"""The training state: what a run needs to go on from where it stopped, bit for bit.

Order, augmentation and mixing follow from (seed, step), so no state of a random generator has to be kept. The state
before the newest one is kept too, in case the newest is damaged.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from pretrain.console import UserError, warn
from pretrain.files import atomic_path
from pretrain.training.sharding import is_sharded

FILE_NAME = "state.pth"
PREVIOUS_NAME = "state.previous.pth"
FREE = ("run.sharding",)  # settings that a resume may change: the state is the same


def has_state(folder: Path) -> bool:
    """Return whether a training state is in `folder`."""
    return any((folder / name).is_file() for name in (FILE_NAME, PREVIOUS_NAME))


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write FOLDER/state.pth atomically; the one that was there becomes state.previous.pth.

    Args:
        folder: The run's folder.
        state: Tensors and plain values; among them "step" and "settings", the run's settings, which a resume compares.
    """
    path = folder / FILE_NAME
    with atomic_path(path) as temporary:
        torch.save(state, temporary)
        if path.is_file():
            path.replace(folder / PREVIOUS_NAME)


def load_state(folder: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """Read the newest whole training state, on the CPU.

    A damaged newest one is passed over with a warning, for the one before.

    Returns:
        What `save_state` was given; None where there is no state.

    Raises:
        UserError: All states are damaged, or the state belongs to a run with other settings.
    """
    problems = []
    for path in (folder / FILE_NAME, folder / PREVIOUS_NAME):
        if not path.is_file():
            continue
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
            problems.append(f"{path}: not a whole training state ({_first_line(error)})")
            continue
        if different := _differences(state["settings"], settings):
            raise UserError(
                f"{path}: belongs to a run with other settings ({'; '.join(different)}); "
                "use the old settings, another --work-dir, or remove the folder"
            )
        if problems:
            warn(f"{problems[0]}; going on from {path.name}, step {state['step']}")
        return state
    if problems:
        raise UserError(f"{problems[0]}; remove it to start this run anew")
    return None


def whole(state: Any, keep: bool) -> Any:
    """Return a state, dicts and lists of tensors and plain values, with shards joined to plain tensors on the CPU.

    Every process has to ask; where `keep` is False it gets None in their place.
    """
    if isinstance(state, dict):
        return {key: whole(value, keep) for key, value in state.items()}
    if isinstance(state, list):
        return [whole(value, keep) for value in state]
    if not is_sharded(state):
        return state
    full = state.full_tensor()
    return full.cpu() if keep else None


def load_whole(method: nn.Module, optimizer: Optimizer, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Load whole weights and an optimizer's whole state; what is sharded takes its own part, on every process."""
    own = method.state_dict()
    method.load_state_dict({name: _in_shards(value, own.get(name)) for name, value in weights.items()})
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries = {
        number: {key: _in_shards(value, trained[number]) for key, value in entry.items()}
        for number, entry in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": entries})


def _in_shards(value: Any, like: Any) -> Any:
    """Return a tensor in shards like those of another of its shape, where that is sharded; else as it is."""
    if not is_sharded(like) or not isinstance(value, Tensor) or value.shape != like.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key in sorted(set(old) | set(new)):
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            found += _differences(before, now, f"{prefix}{key}.")
        elif before != now and f"{prefix}{key}" not in FREE:
            found.append(f"{prefix}{key} was {before!r}, is {now!r}")
    return found
