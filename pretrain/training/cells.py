"""The cells of the paper's tables: which config and method each is, and the figure that the paper has for it.

A table is a file configs/tables/table_N.csv as it stands in the paper: a column is a config, a row a method.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pretrain.console import UserError

CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass(frozen=True)
class Cell:
    """One figure of one table.

    Attributes:
        table: The table's number in the paper.
        config: Name of the config, e.g. "imagenet/r50_100ep".
        method: e.g. "cutmix".
        figure: What the paper has, top-1 accuracy in %, the mean of three trials.
        trainable: False where a method cannot be applied to the network, though the paper has a figure.
    """

    table: int
    config: str
    method: str
    figure: float
    trainable: bool = True

    @property
    def path(self) -> Path:
        """The config's file."""
        return CONFIGS / "pretrain" / f"{self.config}.py"

    @property
    def command(self) -> str:
        """What trains it."""
        return f"tools/pretrain.sh configs/pretrain/{self.config}.py --method {self.method}"


def cells(table: int | None = None, config: str | None = None, method: str | None = None) -> list[Cell]:
    """Return the cells in the paper's order, column after column.

    Args:
        table: Its number; None: every table that pretraining fills.
        config: Part of the config's name, e.g. "imagenet/r50" or "100ep"; None: any.
        method: Its name; None: any.

    Raises:
        UserError: There is no such table, or nothing in it fits.
    """
    known = {int(path.stem.removeprefix("table_")): path for path in (CONFIGS / "tables").glob("table_*.csv")}
    if table is not None and table not in known:
        raise UserError(
            f"table {table}: not one that pretraining fills; those are {', '.join(map(str, sorted(known)))}"
        )
    found = [
        cell
        for number in sorted(known)
        if table in (None, number)
        for cell in _read(number, known[number])
        if (config is None or config in cell.config) and method in (None, cell.method)
    ]
    if not found:
        raise UserError("no cell of the paper's tables fits; `tools/configs.py list` shows all of them")
    return found


def caption(table: int) -> str:
    """Return what the table shows."""
    lines = (CONFIGS / "tables" / f"table_{table}.csv").read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))


def _read(number: int, path: Path) -> Iterator[Cell]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    for config in [name for name in rows[0] if name != "method"]:
        for row in rows:
            if row[config]:
                figure = row[config].removesuffix("!")
                yield Cell(number, config, row["method"], float(figure), trainable=figure == row[config])
