"""Runs joined into tables: a row for each start, mean and standard deviation, and every start against a baseline."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pretrain.console import UserError, did_you_mean, first_few
from transfer.summarize.comparisons import DEFAULT_BASELINE, Cell, Comparison, compare, find_baseline
from transfer.summarize.notes import notes_on_pretraining, notes_on_seeds, notes_on_settings
from transfer.summarize.paper import Column, columns_of, methods, protocol_of
from transfer.summarize.runs import Run, method_of


@dataclass(frozen=True)
class Table:
    """Runs that may stand side by side.

    Attributes:
        title: Framework, configs, and what sets this table apart from others of the same config.
        columns: Of the paper where it has them.
        rows: {start: {title of a column: cell}}, in the paper's order of methods.
        comparisons: Every start against the baseline.
        notes: What a reader has to know, a sentence each.
        files: The results.json that went in.
    """

    title: str
    columns: list[Column]
    rows: dict[str, dict[str, Cell]]
    comparisons: list[Comparison]
    notes: list[str]
    files: list[Path]


def build_tables(runs: Sequence[Run], baseline: str | None = None) -> list[Table]:
    """Join the runs: one table for each framework's Table 7, one for each other config and set of settings.

    Args:
        runs: Of read_runs.
        baseline: Start or method that the others are compared with; None: vanilla, where it is there.

    Raises:
        UserError: No table has the baseline, or it names two rows of one.
    """
    groups: dict[tuple[object, ...], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.group].append(run)
    joined: list[list[list[Run]]] = []
    for group in groups.values():
        titles = {column.title for column in columns_of(group[0])}
        for parts in joined:
            taken = {column.title for part in parts for column in columns_of(part[0])}
            same_framework = parts[0][0].framework == group[0].framework
            if same_framework and _in_paper(group) and all(map(_in_paper, parts)) and not titles & taken:
                parts.append(group)
                break
        else:
            joined.append([group])
    tables = [_table(parts, list(groups.values()), baseline) for parts in joined]
    if baseline is not None and not any(find_baseline(list(table.rows), baseline) for table in tables):
        starts = sorted({run.start for run in runs})
        raise UserError(f"--baseline {baseline}: no run starts from it{did_you_mean(baseline, starts)}")
    return tables


def _in_paper(group: Sequence[Run]) -> bool:
    return bool(columns_of(group[0])[0].paper)


def _table(parts: list[list[Run]], groups: list[list[Run]], baseline: str | None) -> Table:
    """Make the table of groups that fill different columns."""
    rows: dict[str, dict[str, Cell]] = defaultdict(dict)
    columns, notes = [], []
    parts = sorted(parts, key=lambda group: protocol_of(group[0]) != "voc_r50_c4_24k")  # VOC first, as in the paper
    for group in parts:
        columns += columns_of(group[0])
        notes += notes_on_settings(group, groups)
        starts: dict[str, list[Run]] = defaultdict(list)
        for run in group:
            starts[run.start].append(run)
        for start, of_start in starts.items():
            for column in columns_of(group[0]):
                rows[start][column.title] = _cell(of_start, column)
                if lacking := [run.path for run in of_start if math.isnan(run.figures[column.figure])]:
                    notes.append(
                        f"{column.title} from {start} is not averaged: {first_few(lacking)} has no such figure."
                    )
    ordered = {start: rows[start] for start in sorted(rows, key=_rank)}
    reference = find_baseline(list(ordered), baseline)
    comparisons = compare(ordered, columns, reference) if reference else []
    if reference is None:
        wanted = baseline or DEFAULT_BASELINE
        notes.append(f"Nothing is compared: no row starts from {wanted}; another baseline: --baseline START.")
    notes += notes_on_pretraining(ordered) + notes_on_seeds(ordered)
    runs = [run for group in parts for run in group]
    configs = " and ".join(dict.fromkeys(group[0].config for group in parts))
    title = f"{runs[0].framework}, {configs}"
    return Table(title, columns, ordered, comparisons, notes, sorted(run.path for run in runs))


def _rank(start: str) -> tuple[int, str]:
    known = methods()
    method = method_of(start)
    return known.index(method) if method in known else len(known), start


def _cell(runs: Sequence[Run], column: Column) -> Cell:
    """Average the runs of one start."""
    by_pretraining: dict[str, list[float]] = defaultdict(list)
    for run in runs:
        by_pretraining[run.pretraining].append(run.figures[column.figure])
    values = [value for of_one in by_pretraining.values() for value in of_one]
    if len(by_pretraining) > 1:
        values = [float(np.mean(of_one)) for of_one in by_pretraining.values()]
    whole = not any(map(math.isnan, values))
    pretrainings = sum(digest != "" for digest in by_pretraining)
    return Cell(tuple(values) if whole else (), len(runs), pretrainings, column.paper.get(runs[0].method))
