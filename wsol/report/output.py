"""What an evaluation prints, and the files it leaves: wsol.json, wsol.md, per_class.csv and images.csv."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pretrain.files import atomic_path, write_json, write_text
from wsol.report.summary import Grid, grids, sentences, title

RESULT = "wsol.json"
IMAGE_COLUMNS = ("image_id", "label", "class", "predicted", "top1", "top5", "iou", "x0", "y0", "x1", "y1", "error")


def print_result(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the figures of wsol.json as tables, and the protocol that makes them comparable."""
    console = console or Console(highlight=False)
    for grid in grids(result):
        console.print(Text(grid.title, style="bold"), soft_wrap=not console.is_terminal)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for number, heading in enumerate(grid.headings):
            if number == 0:
                table.add_column(heading, overflow="fold")
            else:
                table.add_column(heading, justify="right", no_wrap=True)
        for index, row in enumerate(grid.rows):
            style = "bold" if index in grid.bold else ""
            table.add_row(*(Text(cell, style=style) for cell in row), end_section=index in grid.groups_end)
        console.print(table)
        console.print()
    for sentence in sentences(result):
        # In a file or a pipe each sentence is one line, so that it can be searched for.
        console.print(Text(f"- {sentence}"), soft_wrap=not console.is_terminal)


def write_result(out: str | Path, result: Mapping[str, Any]) -> Path:
    """Write a result into a folder: `wsol.json`, `wsol.md` and, where there are classes, `per_class.csv`.

    A per_class.csv of an earlier run is removed where this one has no classes.

    Returns:
        The path of wsol.json, which is written last.
    """
    out = Path(out)
    write_text(out / "wsol.md", as_markdown(result))
    if result.get("per_class"):
        _write_classes(out / "per_class.csv", result["per_class"])
    else:
        (out / "per_class.csv").unlink(missing_ok=True)
    write_json(out / RESULT, dict(result))
    return out / RESULT


def write_images(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write a CSV file with a line for each image, and return how many there are.

    Args:
        path: Where to write.
        rows: For each image its "image_id", "label" (int), "class" (name), "predicted" (name), "top1" and "top5"
            (bool: the class is the first, or among the first five), "iou" (float in [0, 1]), "box" (x0, y0, x1, y1 in
            pixels of the score map) and "error" (its kind, "correct" where there is none). What is None or missing
            becomes an empty field.

    Raises:
        ValueError: A row has a key that is none of these.
    """
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, IMAGE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            values = dict(row)
            corners = values.pop("box", None)
            if corners is not None:
                values.update(zip(("x0", "y0", "x1", "y1"), (int(corner) for corner in corners), strict=True))
            writer.writerow({name: _field(value) for name, value in values.items()})
            count += 1
    return count


def as_markdown(result: Mapping[str, Any]) -> str:
    """Return the same as `print_result` prints, for a report or a pull request, with the pictures that lie beside."""
    lines = [f"# {_escaped(title(result))}", "", _escaped(result["what"]), ""]
    for number, grid in enumerate(grids(result)):
        lines += [] if number == 0 else [f"## {_escaped(grid.title)}", ""]
        lines += [*_markdown_table(grid), ""]
    lines += ["## What the figures are", "", *(f"- {_escaped(sentence)}" for sentence in sentences(result)), ""]
    for name, picture in (result.get("pictures") or {}).items():
        lines += [f"![{name}]({picture})", ""]
    return "\n".join(lines).rstrip() + "\n"


def _write_classes(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    columns = list(rows[0]["max_box_acc_v2"])
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["label", "class", "images", "top1_cls", *(f"max_box_acc_v2_{column}" for column in columns)])
        for row in rows:
            figures = [row["top1_cls"], *(row["max_box_acc_v2"][column] for column in columns)]
            writer.writerow([row["label"], row["name"], row["images"], *map(_field, figures)])


def _field(value: object) -> object:
    """Return a value as a CSV file has it: yes or no, four decimals, and nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4f}" if isinstance(value, float) else value


def _markdown_table(grid: Grid) -> list[str]:
    rule = ["---", *["---:"] * (len(grid.headings) - 1)]
    rows = [
        [f"**{_escaped(cell.strip())}**" if index in grid.bold and cell else _escaped(cell.strip()) for cell in row]
        for index, row in enumerate(grid.rows)
    ]
    return [f"| {' | '.join(line)} |" for line in ([_escaped(each) for each in grid.headings], rule, *rows)]


def _escaped(text: str) -> str:
    """Return the text without what Markdown would take for a column or for emphasis."""
    for sign in "\\|_*<":
        text = text.replace(sign, f"\\{sign}")
    return text
