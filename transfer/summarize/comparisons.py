"""Every start against a baseline, in every column of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.console import UserError
from transfer.summarize.paper import Column
from transfer.summarize.runs import method_of
from transfer.summarize.statistics import LEVEL, MOCO_DEVIATION, PAPER_GAIN, Welch, holm, seeds_needed, welch

DEFAULT_BASELINE = "vanilla"


@dataclass(frozen=True)
class Cell:
    """The figure of one start.

    Attributes:
        values: What is averaged, in percent: the runs; or, where a start covers several pretraining runs, one mean
            for each of these, as runs from the same weights are no independent trials of a method. Empty where one
            of the runs lacks the figure.
        runs: Number of detector runs.
        pretrainings: Number of pretraining runs; 0 for a random start.
        paper: What the paper has, None where it has nothing.
    """

    values: tuple[float, ...]
    runs: int
    pretrainings: int
    paper: float | None

    @property
    def mean(self) -> float:
        """Mean of the values; NaN where there is none."""
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Sample standard deviation of the values; NaN of fewer than two."""
        if len(self.values) < 2:
            return math.nan
        # Equal values have a mean that rounding may move, and then a spread that is not quite 0.
        return float(np.std(self.values, ddof=1)) if len(set(self.values)) > 1 else 0.0


@dataclass(frozen=True)
class Comparison:
    """One start against the baseline in one column.

    Attributes:
        column: Its title.
        start, baseline: Names of the starts.
        test: None where none is possible.
        p_holm: Holm's corrected p over the tests of the table; NaN without a test.
        verdict: "higher", "lower", "no difference shown", or why there is no test.
    """

    column: str
    start: str
    baseline: str
    test: Welch | None
    p_holm: float
    verdict: str


def find_baseline(starts: Sequence[str], wanted: str | None) -> str | None:
    """Return the start that is meant, by its whole name or by its method; None where it is not there.

    Raises:
        UserError: Two starts share the method that was asked for.
    """
    name = (wanted or DEFAULT_BASELINE).lower()
    if whole := [start for start in starts if start.lower() == name]:
        return whole[0]
    meant = [start for start in starts if method_of(start) == name]
    if len(meant) > 1 and wanted:
        raise UserError(f"--baseline {wanted}: which, {' or '.join(meant)}? Give the whole name")
    return meant[0] if len(meant) == 1 else None


def compare(rows: Mapping[str, Mapping[str, Cell]], columns: Sequence[Column], baseline: str) -> list[Comparison]:
    """Test every start against the baseline in every column; Holm's correction runs over all of these tests."""
    pairs = [
        (column.title, start, rows[start][column.title], rows[baseline][column.title])
        for column in columns
        for start in rows
        if start != baseline and column.title in rows[start] and column.title in rows[baseline]
    ]
    reasons = [_no_test(cell, reference, start, baseline) for _, start, cell, reference in pairs]
    tests = [
        None if reason else welch(cell.values, reference.values)
        for (_, _, cell, reference), reason in zip(pairs, reasons, strict=True)
    ]
    corrected = iter(holm([test.p for test in tests if test]))
    comparisons = []
    for (title, start, _, _), test, reason in zip(pairs, tests, reasons, strict=True):
        if test is None:
            comparisons.append(Comparison(title, start, baseline, None, math.nan, f"no test: {reason}"))
            continue
        p = next(corrected)
        shown = "higher" if test.difference > 0 else "lower"
        comparisons.append(Comparison(title, start, baseline, test, p, shown if p < LEVEL else "no difference shown"))
    return comparisons


def _no_test(cell: Cell, reference: Cell, start: str, baseline: str) -> str:
    """Return why the two cannot be tested, "" where they can."""
    for name, one in ((start, cell), (baseline, reference)):
        if not one.values:
            return f"a run from {name} lacks the figure"
    alone = [name for name, one in ((baseline, reference), (start, cell)) if len(one.values) == 1]
    if alone:
        of_what = "seed" if max(cell.pretrainings, reference.pretrainings) < 2 else "seed or pretraining run"
        return (
            f"one {of_what} of {' and of '.join(alone)} "
            f"({seeds_needed()} each would show {PAPER_GAIN} at a deviation of {MOCO_DEVIATION})"
        )
    if cell.deviation == 0 == reference.deviation:
        return "no spread over the runs of either"
    return ""
