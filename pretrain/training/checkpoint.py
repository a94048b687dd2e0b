"""The training state: what a run needs to go on from where it stopped, bit for bit.

Order, augmentation and mixing follow from (seed, step), so no state of a random generator has to be kept. The state
before the newest one is kept too, in case the newest is damaged.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from pretrain.console import UserError, warn
from pretrain.files import atomic_path

FILE_NAME = "state.pth"
PREVIOUS_NAME = "state.previous.pth"


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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key in sorted(set(old) | set(new)):
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            found += _differences(before, now, f"{prefix}{key}.")
        elif before != now:
            found.append(f"{prefix}{key} was {before!r}, is {now!r}")
    return found
