"""The cells of the paper's tables, the configs that train them, what they cost, and whether every config can be built.

Examples:
    python tools/configs.py list --table 2
    python tools/configs.py list --config cifar100/r18 --method automix
    python tools/configs.py show configs/pretrain/imagenet/r50_100ep.py --method cutmix
    python tools/configs.py cost --table 2
    python tools/configs.py check
"""

from __future__ import annotations

import argparse
import ast
from dataclasses import asdict
from pathlib import Path

import yaml
from rich.box import MARKDOWN, SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pretrain.console import progress, run_tool

COST_HEADINGS = (
    "seen",
    "vanilla\nGFLOP",
    "AutoMix\nGFLOP",
    "TFLOP\n/s",
    "vanilla\nhours",
    "AutoMix\nhours",
    "all\nhours",
)


def main() -> int:
    """Parse the command line and do what it asks; status 1 where a config cannot be built."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    listed = commands.add_parser("list", help="the cells of Tables 1 to 5, 13 and 14, with the paper's figures")
    listed.add_argument("--table", type=int, help="one table")
    listed.add_argument("--config", help="part of a config's name, e.g. imagenet/r50")
    listed.add_argument("--method", help="one method")
    shown = commands.add_parser("show", help="a config's note, and every setting of one of its methods")
    shown.add_argument("config", type=Path)
    shown.add_argument("--method", help="default: the config's own")
    checked = commands.add_parser("check", help="build every config: network, method, optimizer, schedule, transforms")
    checked.add_argument("configs", nargs="*", type=Path, help="files (default: all of them)")
    costed = commands.add_parser("cost", help="operations and expected GPU hours of each column of the tables")
    costed.add_argument("--table", type=int, help="one table")
    costed.add_argument("--markdown", action="store_true", help="as docs/scaling.md has it")
    arguments = parser.parse_args()
    if arguments.command == "cost":
        return cost(arguments.table, arguments.markdown)
    if arguments.command == "list":
        return list_cells(arguments.table, arguments.config, arguments.method)
    if arguments.command == "show":
        return show(arguments.config, arguments.method)
    return check(arguments.configs)


def list_cells(table: int | None, config: str | None, method: str | None) -> int:
    """Print the cells that fit, a table of the paper at a time."""
    from pretrain.training.cells import caption, cells

    found = cells(table, config, method)
    console = Console(highlight=False)
    for number in sorted({cell.table for cell in found}):
        drawn = Table("config", "method", title=caption(number), title_justify="left", title_style="bold")
        drawn.add_column("paper", justify="right")
        drawn.add_column("", style="dim")
        of_table = [cell for cell in found if cell.table == number]
        for cell, following in zip(of_table, [*of_table[1:], None]):
            last_of_column = following is None or following.config != cell.config
            note = "" if cell.trainable else "cannot be trained here"
            drawn.add_row(cell.config, cell.method, f"{cell.figure:.2f}", note, end_section=last_of_column)
        console.print(drawn)
    one = found[-1]
    console.print(f"{len(found)} cells. To train one: {one.command}", soft_wrap=True)
    return 0


def show(path: Path, method: str | None) -> int:
    """Print a config's docstring and its settings, inherited ones too."""
    from pretrain.training.settings import load_settings

    settings = load_settings(path, method=method)
    print(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), end="\n\n")
    print(yaml.safe_dump(_plain(asdict(settings)), sort_keys=False), end="")
    return 0


def cost(table: int | None, markdown: bool) -> int:
    """Print what each column costs, a table of the paper at a time, and all of them together."""
    from pretrain.training.cells import caption, cells
    from pretrain.training.cost import ASSUMPTION, column_costs, total_hours

    console = Console(highlight=False, width=160 if markdown else None)
    found = []
    for number in sorted({cell.table for cell in cells(table)}):
        columns = list(column_costs(number))
        found += columns
        title = ".".join(caption(number).split(".")[:2]).replace("Top-1 accuracy in %: ", "")
        if markdown:
            console.print(f"\n{title}\n")
            drawn = Table("config", box=MARKDOWN)
        else:
            drawn = Table("config", title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
        for heading in COST_HEADINGS:
            drawn.add_column(heading.replace("\n/", "/").replace("\n", " ") if markdown else heading, justify="right")
        for column in columns:
            hours = (column.hours("vanilla"), column.hours("automix"), column.all_hours)
            drawn.add_row(
                column.config,
                f"{column.images / 1e6:.0f} M",
                *(f"{count / 1e9:.1f}" for count in (column.vanilla, column.automix)),
                f"{column.speed / 1e12:.1f}",
                *(f"{number:,.1f}" if number < 10 else f"{number:,.0f}" for number in hours),
            )
        console.print(drawn)
        console.print()
    console.print(f"{total_hours(found):,.0f} GPU hours in all, what two tables share counted once. {ASSUMPTION}")
    return 0


def check(paths: list[Path]) -> int:
    """Build the configs; name those that cannot be."""
    from pretrain.training.check import check_all, config_files

    paths = [path.resolve() for path in paths] or config_files()
    built, wrong = 0, 0
    with progress("configs", len(paths)) as advance:
        for path in paths:
            for result in check_all([path]):
                built += 1
                if result.problem:
                    wrong += 1
                    print(f"{path.name}, {result.method}: {result.problem}")
            advance()
    print(f"{len(paths)} configs, {built} methods of them: {built - wrong} can be built, {wrong} cannot")
    return 1 if wrong else 0


def _plain(value: object) -> object:
    """Return lists for tuples, which YAML writes with a tag."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    run_tool(main)
