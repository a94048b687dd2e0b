"""Several detection runs in one table: mean and standard deviation over seeds for each config and start.

python -m transfer.summarize work_dirs/d2/voc_r50_c4_24k/*/results.json
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from pretrain.console import UserError, run_tool
from pretrain.files import read_json

FIGURES = ("AP", "AP50", "AP75")


@dataclass(frozen=True)
class Row:
    """One config and start.

    Attributes:
        framework: "Detectron2" or "MMDetection".
        config: Name of the config.
        start: What the backbone started from.
        seeds: The seeds that were run.
        figures: {"AP", "AP50", "AP75": (mean, sample standard deviation over the seeds)} in percent; the deviation
            of a single run is NaN.
    """

    framework: str
    config: str
    start: str
    seeds: tuple[int, ...]
    figures: dict[str, tuple[float, float]]


def summarize(paths: Iterable[str | Path]) -> list[Row]:
    """Join results.json files; rows come in the order in which they are first met.

    Raises:
        UserError: A file is missing, is no detection result, or is of a seed that another one has, too.
    """
    groups: dict[tuple[str, str, str], dict[int, dict[str, float]]] = {}
    for path in paths:
        result = read_json(path)
        if not isinstance(result, dict) or not {"start", "seed", "config", *FIGURES} <= set(result):
            raise UserError(f"{path}: not the results.json of a detection run")
        framework = str(result.get("framework", "")).split(" ")[0]
        runs = groups.setdefault((framework, Path(result["config"]).stem, result["start"]), {})
        if result["seed"] in runs:
            raise UserError(
                f"{path}: a second run of seed {result['seed']} from {result['start']}; name each seed once"
            )
        runs[result["seed"]] = {name: math.nan if result[name] is None else result[name] for name in FIGURES}
    rows = []
    for (framework, config, start), runs in groups.items():
        figures = {name: _spread([run[name] for run in runs.values()]) for name in FIGURES}
        rows.append(Row(framework, config, start, tuple(sorted(runs)), figures))
    return rows


def as_table(rows: Sequence[Row]) -> Table:
    """Return the rows as a table for the terminal."""
    words = (Column(name, overflow="fold") for name in ("framework", "config", "start", "seeds"))
    table = Table(*words, *(Column(name, justify="right", no_wrap=True) for name in FIGURES))
    for row in rows:
        cells = []
        for name in FIGURES:
            average, deviation = row.figures[name]
            cells.append(f"{average:.1f}" + ("" if math.isnan(deviation) else f" ± {deviation:.1f}"))
        table.add_row(row.framework, row.config, row.start, ", ".join(map(str, row.seeds)), *cells)
    return table


def _spread(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def main() -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", help="results.json of finetune_d2.py or finetune_mmdet.py")
    width = None if sys.stdout.isatty() else 120  # a file or a pipe would count as 80
    Console(width=width).print(as_table(summarize(parser.parse_args().results)))


if __name__ == "__main__":
    run_tool(main)
