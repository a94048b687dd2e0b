"""The losses of a fine-tuning, a line of JSON each: {"iteration": from 0, "total_loss": ..., ...}."""

from __future__ import annotations

import json
import os
from pathlib import Path

LOG_EVERY = 20  # iterations between lines, fewer in a short run
LOG_LINES = 40  # at least


def log_period(iterations: int) -> int:
    """Return the number of iterations between lines for a run of so many."""
    return min(LOG_EVERY, max(1, iterations // LOG_LINES))


def loss_curve(metrics: Path, points: int = 500) -> list[tuple[int, float]]:
    """Return (iteration, total loss) of metrics.json, thinned to about `points` points; none where it is not there."""
    if not metrics.is_file():
        return []
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    curve = [(int(line["iteration"]), round(float(line["total_loss"]), 4)) for line in lines if "total_loss" in line]
    return curve[:: max(1, len(curve) // points)]


def forget_after(metrics: Path, iteration: int) -> None:
    """Cut metrics.json before the first line of `iteration` or later: these are about to be written again.

    The file is cut where it lies, because its writer may hold it open.
    """
    if not metrics.is_file():
        return
    kept = 0
    for line in metrics.read_bytes().splitlines(keepends=True):
        if _iteration(line) >= iteration:
            break
        kept += len(line)
    os.truncate(metrics, kept)


def _iteration(line: bytes) -> float:
    """Return the iteration of a line of metrics.json; a line cut short by a kill counts as later than any."""
    try:
        return float(json.loads(line)["iteration"])
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return float("inf")
