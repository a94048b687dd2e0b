"""Checks that stop a run early, with a sentence, instead of late, with a riddle."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import distributed, nn

from pretrain.automix.momentum import own_part
from pretrain.console import UserError, first_few, warn
from pretrain.files import require_free_space, write_text
from pretrain.training.sharding import is_sharded

REMEDY = "lower optim.lr, add optim.warmup_epochs or use another precision; the last training state is from before"


def require_finite(losses: dict[str, float], first: int, last: int) -> None:
    """Raise a UserError if the mean of a loss over the steps `first` to `last` is NaN or infinite."""
    if bad := [name for name, value in losses.items() if not math.isfinite(value)]:
        where = f"step {last}" if first == last else f"steps {first} to {last}"
        raise UserError(f"{where}: {', '.join(bad)} is not finite; {REMEDY}")


def require_finite_weights(module: nn.Module, step: int) -> None:
    """Raise a UserError if a parameter holds NaN or an infinity, so that no such training state is written."""
    named = list(module.named_parameters())
    norms = torch.stack([norm.float() for norm in torch._foreach_norm([own_part(p.detach()) for _, p in named])])
    broken = (~torch.isfinite(norms)).int()
    if any(is_sharded(parameter) for _, parameter in named):
        distributed.all_reduce(broken, distributed.ReduceOp.MAX)  # all processes stop, or none
    if bad := [name for (name, _), one in zip(named, broken.tolist(), strict=True) if one]:
        raise UserError(f"step {step}: {bad[0]} and {len(bad) - 1} other tensors are not finite; {REMEDY}")


def require_room_for_states(folder: Path, module: nn.Module) -> None:
    """Raise a UserError unless the disk holds three training states: the newest, the one before, one in the making."""
    size = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    trained = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    require_free_space(folder, 3 * (size + 2 * trained) + 2**20, "the training state")


def images_a_process(batch_size: int, processes: int, accumulate: int) -> int:
    """Return the images a process and step; a batch that cannot be shared out evenly is a UserError."""
    if batch_size % (processes * accumulate):
        parts = f"{processes} processes" + (f" in {accumulate} parts each" if accumulate > 1 else "")
        raise UserError(f"data.batch_size {batch_size} cannot be shared evenly by {parts}")
    return batch_size // processes


def list_unreadable(folder: Path, images: list[str]) -> None:
    """Add to FOLDER/unreadable_images.txt, and name, those training images that are not on that list yet."""
    path = folder / "unreadable_images.txt"
    known = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if new := sorted(set(images) - set(known)):
        write_text(path, "\n".join([*known, *new]) + "\n")
        warn(
            f"{len(new)} training images cannot be read, others took their place: {first_few(new)}; all of them: {path}"
        )
