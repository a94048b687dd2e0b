"""What an evaluation found, as a table: for a terminal, and in Markdown."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

TITLES = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "ece": "expected calibration error",
    "fgsm_error": "error under FGSM, 8/255",
}


def rows_of(found: dict[str, Any]) -> list[tuple[str, float]]:
    """Return names and figures, in percent, of what `evaluate` returns."""
    rows = [(title, found[key]) for key, title in TITLES.items() if key in found]
    for name, each in found.get("mixed", {}).items():
        for where, figures in (("lambda as in training", each), ("lambda 0.5", each["lambda_0.5"])):
            for key, what in (("mixed_acc1", "one class found"), ("mixed_acc2", "both found")):
                rows.append((f"mixed by {name}, {where}: {what}", figures[key]))
    if "corruption" in found:
        corruption = found["corruption"]
        rows.append(("accuracy under corruption, 19 x 5", corruption["mean"]))
        rows.append(("  of the 15 without the 4 extra ones", corruption["mean_15_without_the_4_extra_ones"]))
        for name, severities in corruption["by_corruption"].items():
            rows.append((f"  {name}", sum(severities) / len(severities)))
    return rows


def _title(found: dict[str, Any]) -> str:
    images = f", {found['images']:,} images of {found['data']['root']}/val" if "images" in found else ""
    return f"{found['checkpoint']} ({found['arch']}, {found['method'] or 'unknown method'}, {found['branch']}){images}"


def markdown(found: dict[str, Any]) -> str:
    """Return the table, the pictures and what was left out, as Markdown."""
    lines = ["# Evaluation", "", _title(found), "", "| | % |", "|---|---:|"]
    lines += [f"| {name.strip()} | {value:.2f} |" for name, value in rows_of(found)]
    lines += [f"\n![{name.replace('_', ' ')}]({file})" for name, file in found["pictures"].items()]
    if found["left_out"]:
        lines += ["", "Left out:", "", *(f"- {name}: {reason}" for name, reason in found["left_out"].items())]
    return "\n".join(lines) + "\n"


def print_result(found: dict[str, Any]) -> None:
    """Print the table, the pictures' names and what was left out on stdout."""
    console = Console(highlight=False, soft_wrap=True)
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in rows_of(found):
        table.add_row(name, f"{value:.2f} %")
    console.print(_title(found), markup=False)
    console.print(table)
    for name, reason in found["left_out"].items():
        console.print(f"left out: {name}, {reason}", markup=False)
