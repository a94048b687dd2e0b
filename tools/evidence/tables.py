"""The paper's tables joined with what was found: for every cell the paper's value, and the mean over own seeds."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from evidence.commands import lines
from evidence.downstream import LeftOut, Source, Sources, collect
from evidence.found import Found
from evidence.paper import CONFIGS, FILES, PaperCell, caption, cells_of
from evidence.recipe import configs_of, ours
from pretrain.console import UserError

SEEDS = 3  # Section 4.1: the mean of three trials
DETECTION, RECIPE = 7, 12


@dataclass(frozen=True)
class Cell:
    """A cell of the paper, and what was found for it.

    Attributes:
        paper: The paper's side.
        sources: Its runs, by seed.
    """

    paper: PaperCell
    sources: tuple[Source, ...] = ()

    @cached_property
    def own(self) -> str:
        """What the configs here have, of a cell of Table 12."""
        return ours(self.paper.row, self.paper.column)

    @property
    def values(self) -> list[float]:
        """What is averaged: a value a run; where these follow several pretrainings, one mean for each of them.

        Runs that follow one pretraining are no independent trials of its method.
        """
        by_pretraining: dict[Path, list[float]] = defaultdict(list)
        for source in self.sources:
            by_pretraining[source.pretraining].append(source.value)
        if len(by_pretraining) > 1:
            return [statistics.fmean(values) for values in by_pretraining.values()]
        return [source.value for source in self.sources]

    @property
    def mean(self) -> float | None:
        """Mean of the values; None where there is none."""
        return statistics.fmean(self.values) if self.sources else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation (n - 1) of the values; None of fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Mean less the paper's figure; None where one of them is not there."""
        return None if self.mean is None or self.paper.figure is None else self.mean - self.paper.figure

    @property
    def pretrainings(self) -> int:
        """How many pretraining runs the values are from."""
        return len({source.pretraining for source in self.sources})

    @property
    def missing_seeds(self) -> list[int]:
        """The seeds, from 0, that bring the cell to three values."""
        if self.paper.training is None or self.paper.note:
            return []
        used = {source.seed for source in self.sources}
        lacking = max(SEEDS - len(self.values), 0)
        return [seed for seed in range(len(used) + lacking) if seed not in used][:lacking]


@dataclass(frozen=True)
class Table:
    """One table of the paper.

    Attributes:
        number: In the paper.
        caption: What it shows.
        cells: Column after column.
        left_out: {file or folder: reason} of runs that belong to it by name and fill no cell.
        found: What was below the folders.
    """

    number: int
    caption: str
    cells: list[Cell]
    left_out: LeftOut
    found: Found

    @property
    def rows(self) -> list[str]:
        """Labels in the paper's order."""
        order = [cell.paper.row for cell in self.cells]
        longest = max(self.columns, key=lambda column: sum(cell.paper.column == column for cell in self.cells))
        of_longest = [cell.paper.row for cell in self.cells if cell.paper.column == longest]
        return list(dict.fromkeys([*of_longest, *order]))

    @property
    def columns(self) -> list[str]:
        """Names in the paper's order."""
        return list(dict.fromkeys(cell.paper.column for cell in self.cells))

    @cached_property
    def by_place(self) -> dict[tuple[str, str], Cell]:
        """{(row, column): cell}."""
        return {(cell.paper.row, cell.paper.column): cell for cell in self.cells}

    @property
    def commands(self) -> list[str]:
        """What fills the cells that lack runs."""
        return commands([self])


def build_tables(numbers: Sequence[int], roots: Sequence[Path]) -> tuple[list[Table], LeftOut]:
    """Join tables with the runs below folders.

    Returns:
        The tables, and {folder: reason} of the pretraining runs that are no cell of any table of the paper.

    Raises:
        UserError: The paper has no such table, or a folder does not exist.
    """
    if unknown := [number for number in numbers if number not in FILES]:
        raise UserError(f"--table {unknown[0]}: the paper has Tables {min(FILES)} to {max(FILES)}")
    found = Found(roots)
    return [_join(number, found) for number in numbers], {**found.left_out, **_of_no_table(found)}


def commands(tables: Sequence[Table]) -> list[str]:
    """Return the commands that fill the cells of all these tables, a line for each pretraining and seed."""
    if not tables:
        return []
    return lines(((cell.paper, cell.missing_seeds) for table in tables for cell in table.cells), tables[0].found)


def configs_in(table: Table) -> dict[str, list[Path]]:
    """Return {column: files of its configs} of the columns whose cells all have the same ones."""
    if table.number == RECIPE:
        return {column: configs_of(column) for column in table.columns}
    found: dict[str, list[Path]] = {}
    for column in table.columns:
        trainings = [cell.paper.training for cell in table.cells if cell.paper.column == column]
        paths = {training.path for training in trainings if training is not None}
        if len(paths) == 1:
            found[column] = list(paths)
            if table.number == DETECTION:
                found[column].append(CONFIGS / "d2" / f"{column.split('/')[0]}.yaml")
    return found


def _join(number: int, found: Found) -> Table:
    cells = cells_of(number)
    if number == RECIPE:
        return Table(number, caption(number), [Cell(cell) for cell in cells], {}, found)
    if number in (6, 7, 8):
        sources, left_out = collect(number, cells, found)
    else:
        sources, left_out = _pretrained(cells, found)
    places = [(cell, sources.get((cell.row, cell.column), [])) for cell in cells]
    return Table(number, caption(number), [Cell(cell, tuple(of_cell)) for cell, of_cell in places], left_out, found)


def _pretrained(cells: Sequence[PaperCell], found: Found) -> tuple[Sources, LeftOut]:
    """Return the top-1 of the runs that a table of accuracies asks for, and the runs whose settings differ."""
    sources: Sources = {}
    left_out: LeftOut = {}
    for cell in cells:
        if cell.training is not None:
            runs = sorted(found.fitting(cell.training).items())
            sources[cell.row, cell.column] = [Source(run.folder, seed, run.top1, run.folder) for seed, run in runs]
            left_out |= found.not_counted(cell.training)
    return sources, left_out


def _of_no_table(found: Found) -> LeftOut:
    """Return the pretraining runs that no cell of any table asks for."""
    if not found.runs:
        return {}
    known = set()
    for number in FILES:
        for cell in cells_of(number):
            if cell.training is not None:
                known |= {cell.training.key, (cell.training.alias or cell.training.name, cell.training.method)}
    return {
        run.folder: f"{run.config} by {run.method} is no cell of the paper's tables"
        for run in found.runs
        if (run.config, run.method) not in known
    }
