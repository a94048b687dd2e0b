"""The report of pretraining runs: one self-contained page, and a short table on the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evidence.curves import draw_cost, draw_losses, draw_mixing, draw_pace, draw_validation
from evidence.followed import METRICS, OVER_LAMBDA, read_detections, read_evaluations, read_localisations, why_left_out
from evidence.groups import Comparison, Group, Spread, compare, group_records, varying_keys
from evidence.output import require_file
from evidence.records import Record, command_of, read_records
from evidence.runs import LOG, RESULT
from evidence.web import duration, embed_figure, embed_picture, listed, number, templates
from pretrain.console import UserError, progress, warn
from pretrain.files import write_text

GENERATOR = "tools/report.py"  # in the page's head: what may be written over
SHEET_WIDTH, THUMBNAIL_WIDTH = 1040, 620  # pixels; a thumbnail is shown at a third of the page, and can be zoomed into
STRIP = 3  # pictures of a strip over training


def write_page(roots: Sequence[Path], out: Path | None = None) -> tuple[Path, list[Group]]:
    """Write the page of every run below the folders.

    Args:
        roots: Folders that hold runs, or are runs.
        out: The page; None: report.html in the first folder.

    Returns:
        The page and the groups that it shows.

    Raises:
        UserError: There is no run, a file of one is damaged, or `out` cannot be written, or is of another kind.
    """
    page = out or roots[0] / "report.html"
    _require_own(page)
    records, left_out = read_records(roots)
    require_file(page, "--out", "report.html")
    groups = group_records(records)
    ended = [group for group in groups if group.finished]
    open_ = [group for group in groups if not group.finished]
    comparisons = compare(ended)
    evaluations, mixes = read_evaluations(roots, groups, left_out), _mixes(groups)
    html = (
        templates()
        .get_template("page.html.j2")
        .render(
            generator=GENERATOR,
            title=_title(records),
            about=_about(records, groups),
            summary=summarise(ended, comparisons),
            date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            ended=ended,
            open=open_,
            comparisons=comparisons,
            spread=spread_text,
            figures=_figures(groups),
            differing=[_differing(comparison.groups) for comparison in comparisons],
            environments=_environments(records),
            evaluations=evaluations,
            not_evaluated=why_left_out(evaluations),
            metrics=METRICS,
            detections=read_detections(roots, page, left_out),
            localisations=read_localisations(roots, page, left_out),
            mixes=mixes,
            shown_below=[(row["label"], OVER_LAMBDA) for row in mixes],
            commands={group.label: command_of(group.records[0]) for group in groups if group.records[0].settings},
            settings={
                group.label: json.dumps(group.records[0].settings, indent=2, ensure_ascii=False)
                for group in groups
                if group.records[0].settings
            },
            left_out=left_out,
        )
    )
    write_text(page, html)
    for path, why in left_out.items():
        warn(f"left out: {path}: {why}")
    return page, groups


def print_groups(groups: Sequence[Group], console: Console) -> None:
    """Print a row for each group."""
    table = Table(title="top-1 accuracy: mean and sample standard deviation over the seeds", title_justify="left")
    for heading in ("runs", "seeds", "top-1 %", "training", "steps"):
        table.add_column(heading, justify="left" if heading == "runs" else "right")
    for group in groups:
        record, known = group.records[0], bool(group.networks)
        steps = f"{record.step}" if group.finished else f"{record.step} of {record.total or '?'}"
        top1 = spread_text(group.top1) if known else "-"
        table.add_row(group.label, str(len(group.records)), top1, duration(group.seconds), steps)
    console.print(table)


def spread_text(spread: Spread | None, digits: int = 2) -> str:
    """Return "74.60 ± 0.21", without the deviation where there is none; "-" for nothing."""
    if spread is None:
        return "-"
    deviation = "" if math.isnan(spread.deviation) else f" ± {spread.deviation:.{digits}f}"
    return number(spread.mean, digits) + deviation


def summarise(ended: Sequence[Group], comparisons: Sequence[Comparison]) -> list[str]:
    """Say in a few sentences which runs were best on each data, by how much, and whether that shows anything."""
    if not ended:
        return ["No run has ended yet; what follows are the curves so far."]
    compared = [group for comparison in comparisons for group in comparison.groups]
    said = [_best_of(comparison, len(comparisons) > 1) for comparison in comparisons]
    for group in ended:
        if group not in compared:
            seeds = len(group.records)
            rest = f" (mean and sample standard deviation of {seeds} seeds)" if seeds > 1 else " (one seed)"
            said.append(f"{group.label}: {spread_text(group.top1)} % top-1{rest}, in {duration(group.seconds)}.")
    return said


def _best_of(comparison: Comparison, several: bool) -> str:
    groups, reference = comparison.groups, comparison.reference
    best = max(groups, key=lambda group: group.top1.mean)
    said = f"{comparison.data}: of" if several else "Of"
    said += f" {len(groups)} settings {best.label} has the highest top-1 accuracy, {spread_text(best.top1)} %"
    for difference in comparison.differences:
        if difference.group is best:
            said += f", {difference.points:.2f} points above {reference.label}"
            if difference.test:
                said += f" (Welch's test, p = {difference.p_holm:.3f} after Holm's correction: {difference.verdict})"
            said += f". It took {best.seconds / reference.seconds:.1f} times as long" if reference.seconds else ""
    if single := [group.label for group in groups if len(group.records) == 1]:
        whose = (
            "Each has" if len(single) == len(groups) else f"{listed(single)} {'has' if len(single) == 1 else 'have'}"
        )
        said += f". {whose} one seed only, and a difference of single runs does not show which method is better"
    if any(difference.other_settings for difference in comparison.differences):
        said += ". Settings besides the methods' differ too, as the comparison lists"
    return said + "."


def _require_own(page: Path) -> None:
    """Raise a UserError where the page would replace a file of another kind, such as the quickstart's report."""
    if page.is_file() and f'content="{GENERATOR}"' not in page.read_text(encoding="utf-8", errors="replace")[:2000]:
        raise UserError(f"{page}: was not written by {GENERATOR}; name another file by --out")


def _title(records: Sequence[Record]) -> str:
    names = list(dict.fromkeys(record.config for record in records if record.config))
    return f"Pretraining: {listed(names)}" if 0 < len(names) <= 3 else "Pretraining runs"


def _about(records: Sequence[Record], groups: Sequence[Group]) -> list[str]:
    """Say what the runs are, when they were made, and on what."""
    open_ = sum(not record.finished for record in records)
    methods = dict.fromkeys(group.label for group in groups if group.finished)
    runs = f"{len(records)} run{'s' if len(records) > 1 else ''}" + (f", {open_} of them unfinished" if open_ else "")
    lines = [f"{runs}. {listed(methods)}." if methods else f"{runs}."]
    data = dict.fromkeys(record.settings["data"]["root"] for record in records if record.settings)
    networks = dict.fromkeys(record.settings["backbone"]["name"] for record in records if record.settings)
    if data:
        lines.append(f"{listed(networks)} on {listed(data)}.")
    times = [(record.folder / (RESULT if record.finished else LOG)).stat().st_mtime for record in records]
    days = sorted({datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%d") for time in times})
    lines.append(f"Results of {days[0]}" + (f" to {days[-1]}." if len(days) > 1 else "."))
    return lines


def _figures(groups: Sequence[Group]) -> dict[str, str]:
    """Draw the curves; a kind for which no log has anything is left out."""
    makers = {
        "validation": draw_validation,
        "cost": draw_cost,
        "losses": draw_losses,
        "mixing": draw_mixing,
        "pace": draw_pace,
    }
    figures = {}
    with progress("report: curves", len(makers)) as advance:
        for name, draw in makers.items():
            if figure := draw(groups):
                figures[name] = embed_figure(figure)
            advance(note=name)
    return figures


def _differing(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Return {key: its value in every group} of the settings that differ between the groups."""
    settings = [group.settings for group in groups]
    return {key: [str(one[key]) if key in one else "-" for one in settings] for key in varying_keys(settings)}


def _environments(records: Sequence[Record]) -> dict[tuple[tuple[str, str], ...], list[Record]]:
    """Return the runs by what they ran on."""
    found: dict[tuple[tuple[str, str], ...], list[Record]] = {}
    for record in records:
        if record.environment:
            found.setdefault(tuple((key, str(value)) for key, value in record.environment.items()), []).append(record)
    return found


def _mixes(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Embed each group's pictures of mixed pairs: of its first run that has any, the last one and a few before it."""
    found = []
    for group in groups:
        for record in group.records:
            paths = sorted((record.folder / "mixes").glob("epoch_*.png"))
            if not paths:
                continue
            earlier = paths[:-1]
            count = min(STRIP, len(earlier))
            strip = [earlier[round(i * (len(earlier) - 1) / max(count - 1, 1))] for i in range(count)]
            found.append(
                {
                    "label": group.label,
                    "seed": record.seed if len(group.records) > 1 else None,
                    "last": (_epoch(paths[-1]), embed_picture(paths[-1], SHEET_WIDTH)),
                    "strip": [(_epoch(path), embed_picture(path, THUMBNAIL_WIDTH)) for path in strip],
                }
            )
            break
    return found


def _epoch(path: Path) -> str:
    return path.stem.removeprefix("epoch_").lstrip("0") or "0"
