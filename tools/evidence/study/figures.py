"""The study's pictures: accuracy by steps and by time, accuracy against cost, calibration."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from evidence.study.cost import cost_of
from evidence.study.plan import CONDITIONS, Condition, Source
from evidence.study.records import CellRecord, values
from pretrain.evaluation.calibration import Calibration
from pretrain.evaluation.pictures import draw_accuracy_over_time, draw_calibration
from pretrain.plots import COLOURS

UNIT = "vanilla steps"


def draw_curves(records: Sequence[CellRecord], source: Source) -> Figure:
    """Draw the top-1 accuracy of the methods that are compared on a source, by steps and by what they cost.

    A line is the mean over the seeds, a band reaches from the lowest to the highest of them; a seed that was evaluated
    more or less often, with other settings, has a line by itself. Accuracies that end close together have a third
    of the axis.
    """
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    by_step, by_time = figure.subplots(1, 2, sharey=True)
    ends = []
    for condition in CONDITIONS:
        own = values(records, source.key, condition.key)
        if condition.group == "main" and own:
            for number, alike in enumerate(_of_equal_length(own)):
                curves = np.array(alike)  # (seeds, evaluations, 3): step, seconds, top-1
                ends += [*curves[:, -1, 2]]
                for axes, cost in ((by_step, 1.0), (by_time, cost_of(own[0]))):
                    label = condition.title if number == 0 else ""
                    _band(axes, cost * curves[..., 0].mean(axis=0), curves[..., 2], condition, label)
    by_step.set(xlabel="step", ylabel="top-1 accuracy (%)", title=f"{source.title}: equal steps")
    by_time.set(xlabel=f"training time ({UNIT})", title="equal time")
    if max(ends, default=0) > min(ends, default=0):
        by_step.set_ylim(bottom=max(0, 3 * min(ends) - 2 * max(ends)))
    for axes in (by_step, by_time):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = by_step.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure


def draw_cost(records: Sequence[CellRecord], source: Source) -> Figure:
    """Draw the accuracy of every way of training on a source against its cost (Fig. 1), with deviations over seeds."""
    found = {}
    for condition in CONDITIONS:
        if own := values(records, source.key, condition.key):
            top1 = [record.top1 for record in own]
            time = own[0].steps * cost_of(own[0])
            found[condition.key] = (time, statistics.mean(top1), statistics.stdev(top1) if len(own) > 1 else None)
    return draw_accuracy_over_time(found, UNIT)


def draw_reliability(records: Sequence[CellRecord], source: Source) -> Figure:
    """Draw the calibration of the methods that are compared on a source (Fig. 8), of the first seed that there is."""
    found = {}
    for condition in CONDITIONS:
        own = values(records, source.key, condition.key)
        if condition.group == "main" and own:
            bins = own[0].evaluation["calibration"]
            found[condition.key] = Calibration(
                own[0].evaluation["ece"], *(tuple(bins[key]) for key in ("confidence", "accuracy", "counts"))
            )
    return draw_calibration(found)


def _of_equal_length(records: Sequence[CellRecord]) -> list[list[list[list[float]]]]:
    lengths = dict.fromkeys(len(record.curve) for record in records)
    return [[record.curve for record in records if len(record.curve) == length] for length in lengths if length]


def _band(axes: Any, x: Any, top1: Any, condition: Condition, label: str) -> None:
    fast = condition.key == "automix_fast"
    colour, style = COLOURS[condition.method], "--" if fast else "-"
    axes.plot(x, top1.mean(axis=0), style, color=colour, lw=1.5, label=label)
    axes.fill_between(x, top1.min(axis=0), top1.max(axis=0), color=colour, alpha=0.15, lw=0)
