"""Images stream by: threads measure them while the source makes the next score maps, and the counts add up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from pretrain.console import UserError, progress
from wsol.ahead import ahead
from wsol.counting.ranks import Ranks
from wsol.counting.tally import Counts
from wsol.maps.scoremaps import ScoreMapWriter
from wsol.maps.sources import Scored, Source
from wsol.metadata import ImageRecord

Kept = TypeVar("Kept")


class Tally(Protocol[Kept]):
    """What counts an evaluation: `BoxTally` or `MaskTally`."""

    counts: Counts

    def measure(self, scored: Scored, score_map: npt.NDArray[np.float64]) -> Kept: ...

    def add(self, measured: Kept) -> None: ...


def count(
    source: Source,
    records: Sequence[ImageRecord],
    tally: Tally[Kept],
    what: str,
    threads: int,
    pending: int,
    ranks: Ranks,
    writer: ScoreMapWriter | None = None,
) -> list[Kept]:
    """Count images.

    Args:
        source: Makes the score maps.
        records: All the images; each process takes its share.
        tally: Measures and counts; afterwards it holds the counts of all processes.
        what: For the progress, such as "test".
        threads: How many measure.
        pending: How many images may be under way.
        ranks: This process among others.
        writer: Writes the score maps, or None.

    Returns:
        What is kept of each of this process's images, in their order.

    Raises:
        UserError: An image, its score map or its truth is missing or wrong, in this process or in another.
    """
    kept, mine = [], ranks.share(records)

    def measure(scored: Scored) -> Kept:
        score_map = scored.score_map()
        try:
            measured = tally.measure(scored, score_map)
        except (TypeError, ValueError) as error:
            raise UserError(f"{scored.where}: {error}") from error
        if writer:
            writer.write(scored.record.image_id, score_map)
        return measured

    shown = progress(f"maps and boxes of {what}", len(mine), visible=ranks.first)
    with ranks.together(), shown as advance:
        for _, measured in ahead(source(mine), measure, threads, pending):
            tally.add(measured)
            kept.append(measured)
            advance()
    ranks.add_up(list(tally.counts.values()))
    return kept
