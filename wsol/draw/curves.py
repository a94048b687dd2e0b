"""Plots of an evaluation: accuracy over the threshold, kinds of error, classes; or precision over recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from wsol.draw.cases import save

# Okabe and Ito's colours, which people with any of the usual colour-blindnesses tell apart.
IOU_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
ERROR_COLOURS = {
    "correct": "#009e73",
    "wrong class": "#7f7f7f",
    "several objects": "#cc79a7",
    "part": "#e69f00",
    "more": "#56b4e9",
    "other": "#d9d9d9",
}
FEW_CLASSES = 30  # up to so many, each class has a dot
LEAST_SHARE = 5.0  # percent: a smaller part of a bar has no room for its number


def draw_curves(path: str | Path, result: Mapping[str, Any]) -> None:
    """Draw the curves of a result (wsol.json, see docs/wsol.md).

    With boxes: the accuracy at every score threshold beside the centre baseline's, with the thresholds that were
    chosen; the kinds of error; the accuracy of every class, sorted. With masks: precision over recall.

    Args:
        path: Where to write; .png, .jpg, .svg or .pdf.
        result: The plain values of an evaluation.
    """
    save(curves_figure(result), path)


def curves_figure(result: Mapping[str, Any]) -> Figure:
    """Return the figure that `draw_curves` writes; see there."""
    if "pxap" in result:
        figure = Figure(figsize=(4.6, 4.2), dpi=130, layout="constrained")
        _precision_over_recall(figure.subplots(), result)
        _headline(figure, result, result["pxap"], result["centre_baseline"]["pxap"])
        return figure
    panels = [_accuracy_over_threshold]
    panels += [_errors] if result.get("errors") else []
    panels += [_classes] if len(result.get("per_class") or ()) > 1 else []
    widths = [4.6, 3.2, 3.6][: len(panels)]
    figure = Figure(figsize=(sum(widths), 4.2), dpi=130, layout=ConstrainedLayoutEngine(wspace=0.06))
    for axes, draw in zip(figure.subplots(1, len(panels), width_ratios=widths, squeeze=False)[0], panels, strict=True):
        draw(axes, result)
    _headline(figure, result, result["max_box_acc_v2"]["mean"], result["centre_baseline"]["mean"])
    return figure


def _headline(figure: Figure, result: Mapping[str, Any], score: float, centre: float) -> None:
    protocol = result["protocol"]
    where = f"{protocol.get('data', 'score maps')}, {protocol['split']}, {result['images']} images"
    words = f"{where}\n{protocol['metric']} {score:.2f} %, centred Gaussian {centre:.2f} %"
    figure.suptitle(words, fontsize=10, weight="bold", parse_math=False)


def _accuracy_over_threshold(axes: Axes, result: Mapping[str, Any]) -> None:
    thresholds, chosen = result["thresholds"], result.get("chosen_on_val")
    key = []
    for colour, (iou, curve) in zip(IOU_COLOURS, result["curve"].items()):
        [line] = axes.plot(thresholds, curve, color=colour, lw=1.8, label=f"IoU at least {iou} %")
        key.append(line)
        axes.plot(thresholds, result["centre_curve"][iou], color=colour, lw=1.1, ls="--", alpha=0.75)
        best = result["best_threshold"][iou]
        axes.plot(best, result["max_box_acc_v2"][iou], "o", color=colour, ms=7, mec="white", mew=1.0, zorder=4)
        if chosen:
            values = (chosen["threshold"][iou], chosen["max_box_acc_v2"][iou])
            axes.plot(*values, "D", color="white", mec=colour, ms=5.5, mew=1.6, zorder=5)
    key.append(Line2D([], [], color="#555", lw=1.1, ls="--", label="centred Gaussian"))
    key.append(Line2D([], [], color="#555", lw=0, marker="o", ms=6, label="best here (oracle)"))
    if chosen:
        label = "threshold chosen on val"
        key.append(Line2D([], [], color="white", mec="#555", lw=0, marker="D", ms=5, mew=1.4, label=label))
    axes.set(title="Accuracy over the score threshold", xlabel="score threshold", ylabel="images, %")
    axes.set(xlim=(0, 1), ylim=(0, 102))
    _calm(axes)
    axes.legend(handles=key, ncols=2, **_below(-0.16))


def _errors(axes: Axes, result: Mapping[str, Any]) -> None:
    errors = result["errors"]
    bars = {"box": errors["gt_known"], "class and box": errors.get("top1")}
    bars = {name: parts for name, parts in bars.items() if parts}
    used = [kind for kind in ERROR_COLOURS if any(parts.get(kind) for parts in bars.values())]
    base = np.zeros(len(bars))
    for kind in used:
        heights = np.array([parts.get(kind, 0.0) for parts in bars.values()])
        drawn = axes.bar(list(bars), heights, 0.62, bottom=base, color=ERROR_COLOURS[kind], label=kind, lw=0)
        axes.bar_label(
            drawn, [f"{value:.1f}" if value >= LEAST_SHARE else "" for value in heights], label_type="center",
            fontsize=8, color="white" if kind in ("correct", "wrong class") else "black",
        )  # fmt: skip
        base += heights
    axes.set(title=f"What went wrong, IoU {errors['iou']} %", ylabel="images, %", ylim=(0, 102))
    axes.set(xlabel=f"at score threshold {errors['threshold']:.3f}", xlim=(-0.6, len(bars) - 0.4))
    _calm(axes)
    axes.tick_params(axis="x", length=0)
    axes.legend(ncols=3, columnspacing=1.0, handlelength=1.0, **_below(-0.16))


def _classes(axes: Axes, result: Mapping[str, Any]) -> None:
    rows: Sequence[Mapping[str, Any]] = result["per_class"]
    ranks = range(1, len(rows) + 1)
    dots: dict[str, Any] = {"marker": "o", "ms": 3.5} if len(rows) <= FEW_CLASSES else {}
    for colour, iou in zip(IOU_COLOURS, result["curve"]):
        values = sorted((row["max_box_acc_v2"][iou] for row in rows), reverse=True)
        axes.plot(ranks, values, color=colour, lw=1.8, label=f"IoU {iou} %", clip_on=False, **dots)
    axes.set(title="Accuracy of each class", xlabel="classes, sorted for each IoU", ylabel="images of the class, %")
    axes.set(xlim=(1, len(rows)), ylim=(0, 102))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _calm(axes)
    axes.legend(ncols=3, columnspacing=1.0, handlelength=1.2, **_below(-0.16))


def _precision_over_recall(axes: Axes, result: Mapping[str, Any]) -> None:
    """Draw the steps whose area is the figure: a step's height is the precision at its right end."""
    recall, precision = np.array(result["recall"], dtype=float), np.array(result["precision"], dtype=float)
    order = slice(None, None, -1) if recall[0] > recall[-1] else slice(None)
    recall, precision = 100 * recall[order], 100 * precision[order]
    known = np.isfinite(precision)
    precision[~known] = precision[known][0]  # above the highest score there are no pixels, and no precision either
    axes.fill_between(recall, precision, step="pre", color=IOU_COLOURS[0], alpha=0.15, lw=0)
    axes.plot(recall, precision, drawstyle="steps-pre", color=IOU_COLOURS[0], lw=1.8)
    axes.set(title="Precision over recall, all pixels", xlabel="recall, %", ylabel="precision, %")
    axes.set(xlim=(0, 100), ylim=(0, 102))
    _calm(axes)


def _calm(axes: Axes) -> None:
    axes.title.set_fontsize(10)
    axes.tick_params(labelsize=8)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_fontsize(9)
    axes.grid(axis="y", alpha=0.25, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _below(depth: float) -> dict[str, Any]:
    """Return where a legend stands below its axes, `depth` of their height under them."""
    return {"loc": "upper center", "bbox_to_anchor": (0.5, depth), "fontsize": 8, "frameon": False}
