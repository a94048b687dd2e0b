"""The joined tables on the terminal, in Markdown, and as JSON."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich import table as rich_table
from rich.console import Console

from evidence.downstream import LeftOut
from evidence.paper import CONFIGS, decimals
from evidence.tables import RECIPE, SEEDS, Cell, Table, commands, configs_in
from pretrain.console import first_few

SHOWN = 2  # commands below a table
LISTED = 3  # results that fill no cell for the same reason
KEY = (
    "A cell is the paper's figure, then the mean ± sample standard deviation over own seeds, their number, and the "
    "difference from the paper. The paper's figures are means of three trials (Section 4.1)."
)


def print_tables(tables: Sequence[Table], left_out: LeftOut, console: Console) -> None:
    """Print the tables, in blocks of columns where the console is narrow, and below each what it lacks."""
    console.print(KEY, style="dim")
    for table in tables:
        console.print(f"\n{table.caption}", style="bold")
        for columns in _blocks(table, console.width):
            drawn = rich_table.Table("", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
            for column in columns:
                drawn.add_column(_heading(column), vertical="bottom", no_wrap=True)
            for row in table.rows:
                drawn.add_row(row, *(_text(table.by_place.get((row, column))) for column in columns))
            console.print(drawn)
            console.print()
        console.print(_summary(table))
        for line in _left_out(table.left_out):
            console.print(f"- {line}")
        for line in _few_commands(table):
            console.print(line, soft_wrap=True, style="dim")
    if left_out:
        console.print("\nOf no table:", style="bold")
        for line in _left_out(left_out):
            console.print(f"- {line}")


def as_markdown(tables: Sequence[Table], left_out: LeftOut, command: str, folder: Path) -> str:
    """Return the same as a page.

    Args:
        tables: Of `build_tables`.
        left_out: Of `build_tables`.
        command: What makes the page; it stands at its head.
        folder: Where the page goes: links to the configs start from there.
    """
    lines = ["# The paper's tables, and the runs that are there", "", f"Made by `{command}`; do not edit.", "", KEY, ""]
    for table in tables:
        configs = configs_in(table)
        lines += [f"## Table {table.number}", "", _escaped(table.caption.partition(". ")[2]), ""]
        headings = [_linked_heading(column, configs, folder) for column in table.columns]
        lines += [f"| {' | '.join(['', *headings])} |", f"|{' --- |' * (len(headings) + 1)}"]
        for row in table.rows:
            cells = [table.by_place.get((row, column)) for column in table.columns]
            texts = [_linked(cell, configs, folder) for cell in cells]
            lines.append(f"| {' | '.join([_escaped(row), *texts])} |")
        lines += ["", _summary(table), ""]
        if reasons := _left_out(table.left_out):
            lines += [*(f"- {_escaped(line)}" for line in reasons), ""]
        if shown := _few_commands(table):
            lines += ["```", *shown, "```", ""]
    if left_out:
        lines += ["## Of no table", ""]
        lines += [f"- {_escaped(line)}" for line in _left_out(left_out)]
    return "\n".join(lines).rstrip() + "\n"


def as_json(tables: Sequence[Table], left_out: LeftOut) -> dict[str, Any]:
    """Return the same as plain values; what is not known is None."""
    return {
        "tables": [
            {
                "table": table.number,
                "caption": table.caption,
                "cells": [_plain(cell) for cell in table.cells],
                "left_out": {str(path): reason for path, reason in table.left_out.items()},
            }
            for table in tables
        ],
        "left_out": {str(path): reason for path, reason in left_out.items()},
        "commands": commands(tables),
    }


def _plain(cell: Cell) -> dict[str, Any]:
    training = cell.paper.training
    place = {"row": cell.paper.row, "column": cell.paper.column}
    if training is None:
        return {**place, "paper": cell.paper.text, "own": cell.own, "equal": cell.paper.text == cell.own}
    return {
        **place,
        "paper": cell.paper.figure,
        "mean": cell.mean,
        "standard_deviation": cell.deviation,
        "n": len(cell.values),
        "difference": cell.difference,
        "runs": [{"path": str(s.path), "seed": s.seed, "value": s.value} for s in cell.sources],
        "pretraining_runs": cell.pretrainings,
        "config": training.path.relative_to(CONFIGS.parent).as_posix(),
        "method": training.method,
        "note": cell.paper.note,
        "missing_seeds": cell.missing_seeds,
    }


def _text(cell: Cell | None) -> str:
    """Return "78.04 | 77.91 ± 0.20 (3) -0.13", "78.04 | not run"; a cell that the paper leaves empty is "-"."""
    return "-" if cell is None else f"{_paper(cell)} | {_own(cell)}"


def _paper(cell: Cell) -> str:
    if cell.paper.text:
        return cell.paper.text
    return "in a picture" if cell.paper.figure is None else f"{cell.paper.figure:.{decimals(cell.paper.table)}f}"


def _own(cell: Cell) -> str:
    if cell.paper.text:
        return cell.own if cell.own == cell.paper.text else f"{cell.own} differs"
    if cell.mean is None:
        return cell.paper.note or "not run"
    count = len(cell.values)
    number = str(count) if count >= SEEDS else f"{count} of {SEEDS}"
    if 1 == cell.pretrainings < count:
        number += ", 1 pretraining"
    spread = "" if cell.deviation is None else f" ± {cell.deviation:.2f}"
    against = "" if cell.difference is None else f" {cell.difference:+.2f}"
    return f"{cell.mean:.2f}{spread} ({number}){against}"


def _summary(table: Table) -> str:
    """Return one line that counts."""
    if table.number == RECIPE:
        same = sum(cell.own == cell.paper.text for cell in table.cells)
        return f"{same} of {len(table.cells)} settings are the paper's."
    run = [cell for cell in table.cells if cell.sources]
    whole = [cell for cell in run if not cell.missing_seeds]
    if not run:
        return f"{len(table.cells)} cells, none with a run."
    return f"{len(table.cells)} cells: {len(run)} with runs, {len(whole)} of these with {SEEDS} or more."


def _few_commands(table: Table) -> list[str]:
    lines = table.commands
    more = [f"... {len(lines) - SHOWN} more; the same command with --commands prints them all"]
    return [*lines[:SHOWN], *(more if len(lines) > SHOWN else [])]


def _left_out(left_out: LeftOut) -> list[str]:
    """Return a line for each reason, with the first few of the files it holds for."""
    by_reason: dict[str, list[Path]] = {}
    for path, reason in left_out.items():
        by_reason.setdefault(reason, []).append(path)
    return [
        f"not counted: {reason}: {first_few(paths, LISTED)}"
        + (f" ({len(paths)} in all, --json OUT.json has them)" if len(paths) > LISTED else "")
        for reason, paths in by_reason.items()
    ]


def _blocks(table: Table, width: int) -> Iterator[list[str]]:
    """Yield the columns in groups that fit the width, at least one column each."""
    taken = label = max(map(len, table.rows)) + 2
    block: list[str] = []
    for column in table.columns:
        texts = [_text(table.by_place.get((row, column))) for row in table.rows]
        wide = max(map(len, [*texts, *_heading(column).split("\n")])) + 2
        if block and taken + wide > width:
            yield block
            block, taken = [], label
        block.append(column)
        taken += wide
    yield block


def _heading(column: str) -> str:
    """Return a config's name on several lines."""
    return column.replace("/", "/\n")


def _linked_heading(column: str, configs: Mapping[str, list[Path]], folder: Path) -> str:
    """Return a column's name and links to its configs; a name that is its config's is the link."""
    paths = configs.get(column, [])
    if [_name(path) for path in paths] == [column]:
        return _link(column, paths[0], folder)
    links = ", ".join(_link(_name(path), path, folder) for path in paths)
    return f"{_escaped(column)} ({links})" if links else _escaped(column)


def _linked(cell: Cell | None, configs: Mapping[str, list[Path]], folder: Path) -> str:
    """Return a cell's text; its figure is a link where the column's heading has none."""
    if cell is None:
        return "-"
    figure = _escaped(_paper(cell))
    if cell.paper.training is not None and cell.paper.column not in configs:
        figure = _link(_paper(cell), cell.paper.training.path, folder)
    return f"{figure}; {_escaped(_own(cell))}"


def _name(config: Path) -> str:
    """Return "imagenet/r50_100ep" of a config's file."""
    return f"{config.parent.name}/{config.stem}"


def _link(text: str, config: Path, folder: Path) -> str:
    return f"[{_escaped(text)}]({Path(os.path.relpath(config, folder.resolve())).as_posix()})"


def _escaped(text: str) -> str:
    """Return the text without what Markdown would take for a column or for emphasis."""
    for sign in "\\|_*<":
        text = text.replace(sign, f"\\{sign}")
    return text
