"""The study's tables, in Markdown: means and sample standard deviations over seeds, and the tests of differences."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evidence.paper import cells_of
from evidence.study.cost import cost_of
from evidence.study.plan import CONDITIONS, SEEDS, SOURCES, Source
from evidence.study.records import CellRecord, values
from transfer.summarize.statistics import LEVEL, holm, welch

Figure = Callable[[CellRecord], float | None]


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, and the record's figure."""

    heading: str
    figure: Figure


def _mixed(policy: str) -> Figure:
    """Return the share of mixes of two equal halves whose two classes are the network's best two."""
    return lambda record: record.evaluation["mixed"].get(policy, {}).get("lambda_0.5", {}).get("mixed_acc2")


ALL = (
    Column("top-1", lambda r: r.top1),
    Column("ECE", lambda r: r.evaluation["ece"]),
    Column("FGSM error", lambda r: r.evaluation["fgsm_error"]),
    Column("MixUp mixes, both found", _mixed("mixup")),
    Column("CutMix mixes, both found", _mixed("cutmix")),
)
WITH_BOXES = (
    Column("MaxBoxAccV2", lambda r: r.wsol["max_box_acc_v2"] if r.wsol else None),
    Column("AP50", lambda r: r.detection["AP50"] if r.detection else None),
)
# The conditions of the rows of Tables 9 and 10, by the column that the row is in.
TABLE_9 = {
    ("random grids", ""): "random_grids",
    ("+ cross attention", ""): "cross_attention",
    ("+ lambda embedding", ""): "lam_embedding",
    ("+ l_lambda", ""): "automix",
}
TABLE_10 = {
    ("none", "mixup"): "mixup",
    ("+ MP", "mixup"): "mixup_mp",
    ("+ MP + CE", "mixup"): "mixup_mp_ce",
    ("none", "cutmix"): "cutmix",
    ("+ MP", "cutmix"): "cutmix_mp",
    ("+ MP + CE", "cutmix"): "cutmix_mp_ce",
    ("none", "automix"): "no_momentum",
    ("+ MP (m = 0)", "automix"): "momentum_zero",
    ("+ MP", "automix"): "no_ce",
    ("+ MP + CE", "automix"): "automix",
}
COLUMN = "tiny/r18_400ep"  # of these tables
TITLES = {"": "", "mixup": "MixUp, ", "cutmix": "CutMix, ", "automix": "Mix Block, "}


def summary(figures: Sequence[float | None]) -> str:
    """Return "mean ± sample standard deviation", the mean alone of one figure, and a dash of none."""
    known = [figure for figure in figures if figure is not None]
    if not known:
        return "–"
    if len(known) == 1:
        return f"{known[0]:.1f}"
    return f"{statistics.mean(known):.1f} ± {statistics.stdev(known):.1f}"


def main_table(records: Sequence[CellRecord], source: Source) -> str:
    """Return every measure of the methods that are compared on a source."""
    columns = ALL + (WITH_BOXES if source.scenes else ())
    headings = ["method", "seeds", *(column.heading for column in columns), "cost, × vanilla"]
    rows = []
    for condition in CONDITIONS:
        own = values(records, source.key, condition.key)
        if condition.group == "main" and own:
            cells = [summary([column.figure(record) for record in own]) for column in columns]
            rows.append([condition.title, _seeds(own), *cells, f"{cost_of(own[0]):.1f}"])
    return _markdown(headings, rows)


def welch_table(records: Sequence[CellRecord], source: Source, ablations: bool = False) -> str:
    """Return AutoMix against each of the other methods in top-1: difference, interval, p, and Holm's p.

    Where no test is possible the row says why.

    Args:
        records: Of any cells.
        source: Whose records count.
        ablations: Against the ablations instead; Holm's correction is for the tests of one table.
    """
    ours = [record.top1 for record in values(records, source.key, "automix")]
    found = []
    for condition in CONDITIONS:
        theirs = [record.top1 for record in values(records, source.key, condition.key)]
        belongs = (condition.group == "ablation") == ablations and condition.key != "automix"
        if belongs and ours and theirs:
            reason = _no_test(ours, theirs)
            found.append((condition, theirs, reason, None if reason else welch(ours, theirs)))
    corrected = iter(holm([test.p for _, _, _, test in found if test]))
    rows = []
    for condition, theirs, reason, test in found:
        row = [condition.title, f"{statistics.mean(ours) - statistics.mean(theirs):+.1f}"]
        if test:
            p = next(corrected)
            verdict = ("higher" if test.difference > 0 else "lower") if p < LEVEL else "no difference shown"
            row += [f"{test.low:+.1f} to {test.high:+.1f}", f"{test.p:.3f}", f"{p:.3f}", verdict]
        else:
            row += ["–", "–", "–", reason]
        rows.append(row)
    return _markdown(["AutoMix against", "difference", "95 % interval", "p", "Holm's p", "AutoMix is"], rows)


def _no_test(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return why two sets of figures cannot be tested, "" where they can."""
    if len(ours) < 2 or len(theirs) < 2:
        return "no test: one seed"
    return "" if len(set(ours)) > 1 or len(set(theirs)) > 1 else "no test: no spread over the seeds of either"


def ablation_table(records: Sequence[CellRecord], table: int) -> str:
    """Return the top-1 accuracy of an ablation on every source, beside the paper's on Tiny-ImageNet, ResNet-18.

    Args:
        records: Of any cells.
        table: 9 or 10, the paper's.
    """
    figures = {(cell.row, cell.column): cell.figure for cell in cells_of(table)}
    rows = []
    for (row, method), key in (TABLE_9 if table == 9 else TABLE_10).items():
        own = [values(records, source.key, key) for source in SOURCES]
        if any(own):
            paper = figures[row, f"{COLUMN}/{method}".rstrip("/")]
            cells = [f"{summary([r.top1 for r in of_source])} ({_seeds(of_source)})" for of_source in own]
            rows.append([f"{TITLES[method]}{row}", f"{paper:.2f}", *cells])
    return _markdown(["", "paper: Tiny, R-18", *(source.title for source in SOURCES)], rows)


def networks_table(records: Sequence[CellRecord], source: Source) -> str:
    """Return teacher and student side by side where a method has both, and what the masks are like at the end."""
    rows = []
    for condition in CONDITIONS:
        own = values(records, source.key, condition.key)
        if own and (condition.has_teacher or condition.method == "automix"):
            both = [summary([r.accuracy.get(f"{name}_top1") for r in own]) for name in ("teacher", "student")]
            errors = summary([100 * r.last["lam_error"] if "lam_error" in r.last else None for r in own])
            spreads = summary([None if r.mask_spread is None else 100 * r.mask_spread for r in own])
            rows.append([condition.title, _seeds(own), *both, errors, spreads])
    headings = ["method", "seeds", "teacher", "student", "abs(λ − mask mean), %", "spread inside a mask, %"]
    return _markdown(headings, rows)


def _seeds(records: Sequence[CellRecord]) -> str:
    return f"{len(records)}" if len(records) == len(SEEDS) else f"{len(records)} of {len(SEEDS)}"


def _markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---" if number == 0 else "---:" for number in range(len(headings))], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
