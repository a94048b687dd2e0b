"""A table on the terminal, in Markdown, and as JSON."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import table as rich_table
from rich.console import Console

from transfer.summarize.comparisons import Cell
from transfer.summarize.statistics import LEVEL, MOCO_DEVIATION, PAPER_GAIN, POWER, seeds_needed
from transfer.summarize.tables import Table

TESTED = (
    "Welch's t-test, two-sided; the interval is of one difference, p (Holm) is corrected for all tests of the table"
)
TEST_HEADINGS = ("column", "start", "against", "difference", "95 % interval", "p", "p (Holm)", "")


def print_tables(tables: Sequence[Table], console: Console) -> None:
    """Print the tables, their tests and notes."""
    for table in tables:
        figures = rich_table.Table(title=table.title, title_justify="left", title_style="bold", show_lines=True)
        for heading in _headings(table):
            figures.add_column(heading, justify="left" if heading == "start" else "right")
        for row in _figure_rows(table, "\n"):
            figures.add_row(*row)
        console.print(figures)
        if table.comparisons:
            tests = rich_table.Table(title=TESTED, title_justify="left", title_style="")
            for heading in TEST_HEADINGS:
                tests.add_column(heading, overflow="fold")
            for row in _test_rows(table):
                tests.add_row(*row)
            console.print(tests)
        for note in table.notes:
            console.print(f"- {note}", soft_wrap=True)
        console.print()


def as_markdown(tables: Sequence[Table], left_out: Mapping[Path, str]) -> str:
    """Return the same for an appendix."""
    lines = []
    for table in tables:
        lines += [f"**{table.title}**: AP in percent, mean ± sample standard deviation over n runs.", ""]
        lines += [*_markdown(_headings(table), _figure_rows(table, "; ")), ""]
        if table.comparisons:
            lines += [f"{TESTED}.", "", *_markdown(TEST_HEADINGS, _test_rows(table)), ""]
        lines += [*(f"- {_escaped(note)}" for note in table.notes), ""]
    lines += [f"- Left out: {_escaped(f'{path}: {reason}')}." for path, reason in left_out.items()]
    return "\n".join(lines).rstrip() + "\n"


def as_json(tables: Sequence[Table], left_out: Mapping[Path, str]) -> dict[str, Any]:
    """Return the same as plain values; what is not known is None."""
    return {
        "tables": [
            {
                "title": table.title,
                "columns": [column.title for column in table.columns],
                "rows": [
                    {"start": start, "cells": {title: _plain_cell(cell) for title, cell in cells.items()}}
                    for start, cells in table.rows.items()
                ],
                "comparisons": [
                    {
                        "column": one.column,
                        "start": one.start,
                        "baseline": one.baseline,
                        "difference": one.test and one.test.difference,
                        "interval_95": one.test and [one.test.low, one.test.high],
                        "p": one.test and one.test.p,
                        "p_holm": _plain(one.p_holm),
                        "verdict": one.verdict,
                    }
                    for one in table.comparisons
                ],
                "notes": table.notes,
                "files": [str(path) for path in table.files],
            }
            for table in tables
        ],
        "left_out": {str(path): reason for path, reason in left_out.items()},
        "test": f"{TESTED}; level {LEVEL}",
        "seeds_needed": {
            "difference": PAPER_GAIN,
            "standard_deviation": MOCO_DEVIATION,
            "power": POWER,
            "level": LEVEL,
            "seeds": seeds_needed(),
        },
    }


def _headings(table: Table) -> list[str]:
    return ["start", *(column.title for column in table.columns)]


def _figure_rows(table: Table, separator: str) -> list[list[str]]:
    return [
        [start, *(_cell_text(cells.get(column.title), separator) for column in table.columns)]
        for start, cells in table.rows.items()
    ]


def _cell_text(cell: Cell | None, separator: str) -> str:
    """Return "82.31 ± 0.21, n = 5" and, behind separators, the number of runs where it is not n, and the paper's."""
    if cell is None:
        return "-"
    parts = ["not computed"]
    if cell.values:
        spread = "" if math.isnan(cell.deviation) else f" ± {cell.deviation:.2f}"
        parts = [f"{cell.mean:.2f}{spread}, n = {len(cell.values)}"]
        if cell.runs != len(cell.values):
            parts.append(f"{cell.runs} detector runs")
    if cell.paper is not None:
        parts.append(f"paper {cell.paper:.1f}" + (f", {cell.mean - cell.paper:+.2f}" if cell.values else ""))
    return separator.join(parts)


def _test_rows(table: Table) -> list[list[str]]:
    """Return a row for each test, and one for all columns that lack one for the same reason."""
    rows = []
    lacking: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for one in table.comparisons:
        if one.test is None:
            lacking[one.start, one.baseline, one.verdict].append(one.column)
            continue
        interval = f"{one.test.low:+.2f} to {one.test.high:+.2f}"
        figures = [f"{one.test.difference:+.2f}", interval, f"{one.test.p:.3g}", f"{one.p_holm:.3g}"]
        rows.append([one.column, one.start, one.baseline, *figures, one.verdict])
    for (start, baseline, verdict), columns in lacking.items():
        rows.append([", ".join(columns), start, baseline, *["-"] * 4, verdict])
    return rows


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(map(_escaped, line))} |" for line in lines]


def _escaped(text: str) -> str:
    """Return the text without what Markdown would take for a column or for emphasis."""
    for sign in "\\|_*<":
        text = text.replace(sign, f"\\{sign}")
    return text


def _plain_cell(cell: Cell) -> dict[str, Any]:
    return {
        "mean": _plain(cell.mean),
        "standard_deviation": _plain(cell.deviation),
        "n": len(cell.values),
        "values": list(cell.values),
        "runs": cell.runs,
        "pretraining_runs": cell.pretrainings,
        "paper": cell.paper,
        "difference_from_paper": None if cell.paper is None else _plain(cell.mean - cell.paper),
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
