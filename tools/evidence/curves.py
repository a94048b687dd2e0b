"""Curves of pretraining runs: thin for every seed, thick for their mean, dashed for a run that has not ended."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evidence.groups import Group
from pretrain.evaluation.pictures import draw_accuracy_over_time
from pretrain.plots import COLOURS

SPARE_COLOURS = (
    *("#e69f00", "#56b4e9", "#7b5ea7", "#8c6d31", "#117733", "#882255", "#999933", "#44aa99"),
    *("#aa4499", "#88bbdd", "#ddaa33", "#bb5566"),
)
POINTS = 400  # of one curve; more are averaged over spans of as many entries, for the page's size
PANEL = (3.7, 2.9)  # inches
COLUMNS = 3
LOSSES = {
    "ce": "Cross-entropy, clean images",
    "mixed_ce": "Cross-entropy, mixed images",
    "generation_ce": "Teacher's, for the Mix Block",
}
MIXING = {
    "mixed_acc1": ("Mixed samples, top-1", "one of the two classes (%)"),
    "mixed_acc2": ("Mixed samples, top-2", "both classes (%)"),
    "lam_error": ("Mask against λ, student's mixes", "mean |mask's mean - λ|"),
    "lam_error_k": ("Mask against λ, Mix Block's mixes", "mean |mask's mean - λ|"),
    "mask_ratio": ("Loss on the mask's mean", "loss"),
}
PACE = {"lr": ("Learning rate", "learning rate"), "images_per_second": ("Speed", "images a second")}

Curve = tuple[np.ndarray, np.ndarray]


def colours_of(groups: Sequence[Group]) -> dict[str, str]:
    """Return {label: colour}: the method's own for its first group, spare ones for its others."""
    taken = {COLOURS[group.method] for group in groups if group.method in COLOURS}
    spare = cycle([colour for colour in SPARE_COLOURS if colour not in taken])
    colours: dict[str, str] = {}
    for group in groups:
        own = COLOURS.get(group.method)
        colours[group.label] = own if own and own not in colours.values() else next(spare)
    return colours


def draw_validation(groups: Sequence[Group]) -> Figure | None:
    """Draw top-1 accuracy by step, by training time, and by step over the last half; None where nothing was measured.

    The method's result is solid, its other networks dotted.
    """
    colours = colours_of(groups)
    groups = [group for group in groups if group.networks and _has(group, f"{group.networks[0]}_top1")]
    if not groups:
        return None
    figure, panels = _panels(3)
    unit, seconds = _unit_of_time(groups)
    for group in groups:
        for place, network in enumerate(group.networks):
            key, label = f"{network}_top1", group.label if not place else f"{group.label}, {network}"
            style = {**_style(group, colours), "marker": "o"} | ({"ls": ":"} if place else {})
            by_step = list(curves_of(group, key))
            by_time = [(x / seconds, y) for x, y in curves_of(group, key, "elapsed")]
            enlarged = group.finished or not any(other.finished for other in groups)
            late = list(curves_of(group, key, first=group.records[0].step / 2)) if enlarged else []
            for axes, curves in zip(panels, (by_step, by_time, late), strict=True):
                _draw(axes, curves, label, style)
    panels[0].set(xlabel="step", ylabel="top-1 accuracy (%)", title="Validation, equal steps", ylim=(0, None))
    panels[1].set(xlabel=f"training time ({unit})", title="Validation, equal time", ylim=(0, None))
    panels[2].set(xlabel="step", title="The last half of each, enlarged")
    _finish(figure, panels)
    return figure


def _unit_of_time(groups: Sequence[Group]) -> tuple[str, float]:
    """Return the unit for the longest training, and its seconds."""
    longest = max(record.seconds for group in groups for record in group.records)
    return ("h", 3600.0) if longest > 4 * 3600 else ("min", 60.0) if longest > 600 else ("s", 1.0)


def _style(group: Group, colours: dict[str, str]) -> dict[str, Any]:
    return {"color": colours[group.label], "ls": "-" if group.finished else "--", "ms": 2.5}


def draw_cost(groups: Sequence[Group]) -> Figure | None:
    """Draw the accuracy of finished runs against their training time (Fig. 1 of the paper), where there are several."""
    ended = [group for group in groups if group.finished]
    methods = [group.method for group in ended]
    names = methods if len(set(methods)) == len(methods) else [group.label for group in ended]
    if len(ended) < 2:
        return None
    found = {
        name: (group.seconds, group.top1.mean, group.top1.deviation if len(group.records) > 1 else None)
        for name, group in zip(names, ended)
    }
    return draw_accuracy_over_time(found)


def draw_losses(groups: Sequence[Group]) -> Figure | None:
    """Draw every term of the loss by step."""
    return _draw_keys(groups, {key: (title, "loss") for key, title in LOSSES.items()})


def draw_mixing(groups: Sequence[Group]) -> Figure | None:
    """Draw the accuracy on mixed samples and how well the masks keep to lambda."""
    return _draw_keys(groups, MIXING)


def draw_pace(groups: Sequence[Group]) -> Figure | None:
    """Draw the learning rate and the speed."""
    return _draw_keys(groups, PACE)


def _draw_keys(groups: Sequence[Group], keys: dict[str, tuple[str, str]]) -> Figure | None:
    """Draw a panel for each key that a log has; None where none has any."""
    found = {key: text for key, text in keys.items() if any(_has(group, key) for group in groups)}
    if not found:
        return None
    figure, panels = _panels(len(found))
    colours = colours_of(groups)
    for axes, (key, (title, name)) in zip(panels, found.items(), strict=True):
        for group in groups:
            if _has(group, key):
                style = {**_style(group, colours), "marker": "o" if key.startswith("mixed_acc") else ""}
                _draw(axes, list(curves_of(group, key)), group.label, style)
        axes.set(xlabel="step", ylabel=name, title=title, xlim=(0, None), ylim=(0, None))
    _finish(figure, panels)
    return figure


def curves_of(group: Group, key: str, by: str = "step", first: float = 0.0) -> Iterator[Curve]:
    """Yield x and y of every run of the group that has the key, at most 400 points each.

    Args:
        group: Runs.
        key: Of the log's entries.
        by: "step" or "elapsed".
        first: Entries of earlier steps are left out.
    """
    for record in group.records:
        entries = [entry for entry in record.log if key in entry and by in entry and entry["step"] >= first]
        if entries:
            yield _thinned([entry[by] for entry in entries]), _thinned([entry[key] for entry in entries])


def mean_curve(curves: Sequence[Curve]) -> Curve | None:
    """Return the mean of curves with as many points; None of one alone, or where their numbers differ."""
    if len(curves) < 2 or len({len(x) for x, _ in curves}) > 1:
        return None
    return np.mean([x for x, _ in curves], axis=0), np.mean([y for _, y in curves], axis=0)


def _thinned(values: Sequence[float]) -> np.ndarray:
    """Average over spans of equal length where there are more values than points to draw."""
    numbers = np.asarray(values, dtype=float)
    parts = np.array_split(numbers, math.ceil(len(numbers) / math.ceil(len(numbers) / POINTS)))
    return np.array([part.mean() for part in parts])


def _has(group: Group, key: str) -> bool:
    return any(key in entry for record in group.records for entry in record.log)


def _draw(axes: Axes, curves: Sequence[Curve], label: str, style: dict[str, Any]) -> None:
    """Draw one curve, or several thin ones and their mean."""
    mean = mean_curve(curves)
    for x, y in curves:
        axes.plot(x, y, **style | ({"lw": 1.4} if mean is None else {"lw": 0.6, "alpha": 0.45, "marker": ""}))
    if mean is not None:
        axes.plot(*mean, lw=1.8, **style)
    axes.plot([], [], lw=1.6, label=label, **style)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, COLUMNS)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(PANEL[0] * COLUMNS, PANEL[1] * rows + 0.5), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for empty in grid[count:]:
        empty.set_axis_off()
    return figure, grid[:count]


def _finish(figure: Figure, panels: Sequence[Axes]) -> None:
    """Give all panels the plain look, and the figure one legend for all of them."""
    names: dict[str, Any] = {}
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.title.set_fontsize(10)
        axes.tick_params(labelsize=8)
        axes.xaxis.label.set_fontsize(9)
        axes.yaxis.label.set_fontsize(9)
        lines, labels = axes.get_legend_handles_labels()
        names |= {label: line for label, line in zip(labels, lines, strict=True) if label not in names}
    columns = max(1, int(PANEL[0] * COLUMNS / (0.065 * max(map(len, names)) + 0.7)))  # inches of a letter and of a line
    figure.legend(
        names.values(),
        names.keys(),
        loc="outside lower left",
        ncols=columns,
        fontsize=8,
        frameon=False,
        handlelength=2.4,
    )
