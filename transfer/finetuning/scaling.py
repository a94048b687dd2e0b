"""Another number of images in a step: the linear scaling rule, stated.

The learning rate grows with the batch and the iterations shrink (Goyal et al., arXiv:1706.02677), rounded as in
Detectron2's DefaultTrainer.auto_scale_workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Column, Table

from transfer.finetuning.check import COMMAND_LINE


@dataclass(frozen=True)
class Change:
    """A setting before and after the scaling."""

    key: str
    before: Any
    after: Any


def fewer(iterations: int, scale: float) -> int:
    """Return the number of iterations that see as many images with `scale` times as many a step; 0 stays 0."""
    return max(1, round(iterations / scale)) if iterations > 0 else iterations


def scaling_problems(images: int, keys: Iterable[str], given: Mapping[str, str]) -> list[str]:
    """Return a line for each setting that --scale-to would overwrite although the command line sets it.

    Args:
        images: Of --scale-to.
        keys: What it overwrites.
        given: {key: where it was written}.
    """
    if images < 1:
        return [f"--scale-to {images}: a step needs at least one image"]
    return [
        f"{COMMAND_LINE}: {key} contradicts --scale-to {images}, which computes it from the config; leave one of the "
        "two out"
        for key in keys
        if given.get(key) == COMMAND_LINE
    ]


def as_table(changes: Iterable[Change]) -> Table:
    """Return the scaling as a table for the terminal."""
    table = Table("linear scaling", Column("config", justify="right"), Column("this run", justify="right"))
    for change in changes:
        table.add_row(change.key, _told(change.before), _told(change.after))
    return table


def _told(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
