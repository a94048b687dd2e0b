"""What a reader of a table has to know to read it rightly, a sentence each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from transfer.summarize.comparisons import Cell
from transfer.summarize.paper import columns_of, departures, iterations_of, protocol_of
from transfer.summarize.runs import Run
from transfer.summarize.statistics import MOCO_DEVIATION, PAPER_GAIN, seeds_needed


def notes_on_settings(group: Sequence[Run], groups: Sequence[Sequence[Run]]) -> list[str]:
    """Say what sets the group apart from others of its config, and where it is not what the paper did."""
    notes, first = [], group[0]
    others = [
        other[0]
        for other in groups
        if other is not group and (other[0].framework, other[0].config) == (first.framework, first.config)
    ]
    differing = sorted(
        key
        for key in {key for run in (first, *others) for key in run.settings}
        if any(run.settings.get(key) != first.settings.get(key) for run in others)
    )
    if differing:
        here = ", ".join(f"{key} {first.settings.get(key, 'as by default')}" for key in differing)
        files = ", ".join(str(run.path) for run in group)
        notes.append(f"Runs of {first.config} with other settings are in a table of their own; here {here}: {files}.")
    protocol = protocol_of(first)
    if protocol and not columns_of(first)[0].paper:
        done, published = first.settings["iterations"], iterations_of(protocol)
        notes.append(f"{first.config} trains {published} iterations, these runs {done}: no figures of the paper.")
    if changed := departures(first):
        listed = ", ".join(f"{key} {value}" for key, value in changed.items())
        notes.append(f"These runs depart from {first.config}: {listed}.")
    return notes


def notes_on_pretraining(rows: Mapping[str, Mapping[str, Cell]]) -> list[str]:
    """Say how many pretraining runs the means cover."""
    counts = {start: max(cell.pretrainings for cell in cells.values()) for start, cells in rows.items()}
    several = [f"{count} of {start}" for start, count in counts.items() if count > 1]
    notes = []
    if several:
        notes.append(
            f"Pretraining runs that a mean covers: {', '.join(several)}; n counts these, each with the mean of its "
            "detector runs."
        )
    if single := [start for start, count in counts.items() if count == 1]:
        notes.append(
            f"One pretraining run of {', '.join(single)}: the spread is that of the detector's seed, and a difference "
            "is one between these weights, not yet between methods."
        )
    return notes


def notes_on_seeds(rows: Mapping[str, Mapping[str, Cell]]) -> list[str]:
    """Say how many seeds the paper's gain needs, at MoCo's spread and at the spread found here."""
    notes = [
        f"To show {PAPER_GAIN} AP50 with a chance of 80 % takes {seeds_needed()} seeds a start at the standard "
        f"deviation of {MOCO_DEVIATION} that MoCo states for VOC (five trials)."
    ]
    for title in dict.fromkeys(title for cells in rows.values() for title in cells if "AP50" in title):
        spread = [cell.deviation for cells in rows.values() if (cell := cells.get(title)) and cell.deviation > 0]
        weights = [
            len(cells[title].values) - 1 for cells in rows.values() if title in cells and cells[title].deviation > 0
        ]
        if spread:
            pooled = math.sqrt(float(np.average(np.square(spread), weights=weights)))
            notes.append(f"At the {pooled:.2f} of {title} found here it takes {seeds_needed(PAPER_GAIN, pooled)}.")
    return notes
