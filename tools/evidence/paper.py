"""The cells of the paper's tables: the figure of each, and which pretraining it asks for."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pretrain.training import cells as pretraining_cells

CONFIGS = pretraining_cells.CONFIGS
TABLES = CONFIGS / "tables"
FILES = {
    **{number: TABLES / f"table_{number}.csv" for number in (1, 2, 3, 4, 5)},
    6: TABLES / "robustness" / "table_6.csv",
    7: TABLES / "detection" / "table_7.csv",
    8: TABLES / "wsol" / "table_8.csv",
    **{number: TABLES / "ablations" / f"table_{number}.csv" for number in (9, 10, 11)},
    12: TABLES / "recipe" / "table_12.csv",
    **{number: TABLES / f"table_{number}.csv" for number in (13, 14)},
}
ROBUSTNESS_CONFIG = "cifar100/rx50_400ep"
DETECTION_CONFIG = "imagenet/r50_100ep"
TINY_R18 = "tiny/r18_400ep"
PICTURE = "picture"
FULL = {"momentum": 0.999, "one_hot_ce": True}
JOINT = {"momentum": None, "one_hot_ce": False}
COPY = {"momentum": 0.0, "momentum_end": 0.0, "one_hot_ce": False}
# {(row, method of the column): (name of the config for ResNet-18 on Tiny-ImageNet, method, its settings)}; a row that
# a plain config trains has no settings.
ABLATIONS: dict[tuple[str, str], tuple[str, str, dict[str, Any]]] = {
    ("random grids", ""): ("random_grids", "random_grids", {"alpha": 2.0, "grid": 16, **FULL}),
    ("+ cross attention", ""): ("cross_attention", "automix", {"lam_embedding": False, "gamma": 0.0}),
    ("+ lambda embedding", ""): ("lam_embedding", "automix", {"gamma": 0.0}),
    ("+ l_lambda", ""): ("", "automix", {}),
    ("none", "mixup"): ("mixup", "mixup", {}),
    ("none", "cutmix"): ("cutmix", "cutmix", {}),
    ("none", "automix"): ("no_momentum_pipeline", "automix", JOINT),
    ("+ MP (m = 0)", "automix"): ("momentum_zero", "automix", COPY),
    ("+ MP", "mixup"): ("mixup_mp", "mixup", {"momentum": 0.999}),
    ("+ MP", "cutmix"): ("cutmix_mp", "cutmix", {"momentum": 0.999}),
    ("+ MP", "automix"): ("no_one_hot_ce", "automix", {"one_hot_ce": False}),
    ("+ MP + CE", "mixup"): ("mixup_mp_ce", "mixup", FULL),
    ("+ MP + CE", "cutmix"): ("cutmix_mp_ce", "cutmix", FULL),
    ("+ MP + CE", "automix"): ("", "automix", {}),
    ("l = 1", ""): ("layer1", "automix", {"feature_layer": 1}),
    ("l = 2", ""): ("layer2", "automix", {"feature_layer": 2}),
    ("l = 3", ""): ("", "automix", {}),
    ("l = 4", ""): ("layer4", "automix", {"feature_layer": 4}),
}


@dataclass(frozen=True)
class Training:
    """A pretraining that a cell asks for.

    Attributes:
        config: Name of the config's file below configs/pretrain, e.g. "cifar100/r18_800ep".
        method: e.g. "automix".
        changes: {dotted key: value} of --cfg-options.
        alias: Another config whose runs are the same but for their name; "": there is none.
    """

    config: str
    method: str
    changes: dict[str, Any] = field(default_factory=dict)
    alias: str = ""

    @property
    def name(self) -> str:
        """What the run's result.json has as its name."""
        return str(self.changes.get("name", self.config))

    @property
    def path(self) -> Path:
        """The config's file."""
        return CONFIGS / "pretrain" / f"{self.config}.py"

    @property
    def key(self) -> tuple[str, str]:
        """Name and method; no two trainings share both."""
        return self.name, self.method


@dataclass(frozen=True)
class PaperCell:
    """One cell of one table.

    Attributes:
        table: The table's number.
        row, column: As they are printed; a column is the name of a config wherever one trains all of it.
        figure: What the paper has; None where its text has no figure for a cell that can be filled.
        training: The pretraining; None for a cell of Table 12.
        text: The paper's value of a cell of Table 12.
        note: Why the cell cannot be trained here; "" where it can.
    """

    table: int
    row: str
    column: str
    figure: float | None
    training: Training | None
    text: str = ""
    note: str = ""


def caption(table: int) -> str:
    """Return what the table shows, and what has to be known of it: the comment of its file."""
    lines = FILES[table].read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("# ") for line in lines if line.startswith("#"))


def decimals(table: int) -> int:
    """Return how many decimals the paper prints."""
    return 1 if table == 7 else 2


def cells_of(table: int) -> list[PaperCell]:
    """Return the table's cells, column after column, in the paper's order; cells without a figure are left out."""
    if FILES[table].parent == TABLES:
        return [_pretrained(cell) for cell in pretraining_cells.cells(table)]
    return list(_read(table))


def _pretrained(cell: pretraining_cells.Cell) -> PaperCell:
    note = "" if cell.trainable else "cannot be trained here"
    return PaperCell(cell.table, cell.method, cell.config, cell.figure, Training(cell.config, cell.method), note=note)


def _read(table: int) -> Iterator[PaperCell]:
    """Yield the cells of a table whose file is none that `pretrain.training.cells` reads."""
    lines = [line for line in FILES[table].read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    label, *columns = rows[0]
    for column in columns:
        for row in rows:
            value = row[column]
            if not value:
                continue
            if table == 12:
                yield PaperCell(table, row[label], column, None, None, text=value)
            else:
                figure = None if value == PICTURE else float(value)
                yield PaperCell(table, row[label], column, figure, _training(table, row[label], column))


def _training(table: int, row: str, column: str) -> Training:
    if table == 6:
        return Training(ROBUSTNESS_CONFIG, row)
    if table == 7:
        return Training(DETECTION_CONFIG, row)
    if table == 8:
        return Training(column, row)
    config, _, of_column = column.partition("/")[2].partition("/")
    config = f"{column.partition('/')[0]}/{config}"
    file, method, settings = ABLATIONS[row, of_column]
    if not settings:
        return Training(config, method, alias=f"ablations/{file}" if file and config == TINY_R18 else "")
    if config == TINY_R18:
        return Training(f"ablations/{file}", method)
    changes = {f"method.{key}": value for key, value in settings.items()}
    return Training(config, method, {**changes, "name": f"ablations/{file}_{config.replace('/', '_')}"})
