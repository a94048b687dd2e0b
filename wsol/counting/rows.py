"""A row for each image: what came of it at one score threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wsol.counting.tally import TOP_K, Measured
from wsol.errors import KINDS


def row_of(measured: Measured, place: int, names: Sequence[str], predicted_names: Sequence[str]) -> dict[str, Any]:
    """Return an image's row for `wsol.report.write_images`, plain values that processes can exchange.

    Args:
        measured: The image.
        place: The place of the score threshold.
        names: Names of the data's classes.
        predicted_names: Names of the network's classes.
    """
    scored, level = measured.scored, int(measured.best.level[place])
    return {
        "image_id": scored.record.image_id,
        "label": scored.record.label,
        "class": names[scored.record.label],
        "predicted": None if scored.predicted is None else predicted_names[scored.predicted],
        "top1": None if scored.rank is None else scored.rank == 0,
        "top5": None if scored.rank is None else scored.rank < TOP_K,
        "iou": float(measured.best.iou[level]),
        "box": measured.best.boxes[level].tolist(),
        "error": KINDS[measured.kinds[level]],
    }
