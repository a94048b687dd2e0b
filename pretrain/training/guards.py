"""Checks that stop a run early, with a sentence, instead of late, with a riddle."""

from __future__ import annotations

import math
from pathlib import Path

from torch import nn

from pretrain.console import UserError
from pretrain.files import require_free_space


def require_finite(losses: dict[str, float], step: int) -> None:
    """Raise a UserError if a loss is NaN or infinite."""
    if bad := [name for name, value in losses.items() if not math.isfinite(value)]:
        raise UserError(
            f"step {step}: {', '.join(bad)} is not finite; lower optim.lr, add optim.warmup_epochs or use another "
            "precision (the last training state is from before)"
        )


def require_room_for_states(folder: Path, module: nn.Module) -> None:
    """Raise a UserError unless the disk holds two training states (the old one goes when the new one is whole)."""
    size = sum(t.numel() * t.element_size() for t in module.state_dict().values())
    trained = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    require_free_space(folder, 2 * (size + 2 * trained) + 2**20, "the training state")


def per_process_batch(batch_size: int, processes: int) -> int:
    """Return the images a process and step; a batch that cannot be shared out evenly is a UserError."""
    if batch_size % processes:
        raise UserError(f"data.batch_size {batch_size} cannot be shared evenly by {processes} processes")
    return batch_size // processes
