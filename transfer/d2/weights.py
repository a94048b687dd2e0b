"""A whole detector from a checkpoint of a run."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from transfer.weights import load_whole, read_checkpoint


def load_detector(model: nn.Module, path: Path) -> int:
    """Load a whole detector from a checkpoint of a run; return the number of iterations behind it.

    Raises:
        UserError: It is no such checkpoint, or one of another detector.
    """
    content = read_checkpoint(path, "model", "iteration")
    load_whole(model, content["model"], path)
    return int(content["iteration"]) + 1
