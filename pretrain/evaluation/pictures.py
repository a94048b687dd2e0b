"""The paper's figures from one's own networks and runs: Figs. 1, 3, 5, 7, 8, 12 and 13."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor, nn

from pretrain.automix import AutoMixSettings, MixBlock
from pretrain.backbones import BackboneCard, stage_channels, stage_features
from pretrain.console import UserError
from pretrain.evaluation.calibration import Calibration
from pretrain.evaluation.cams import grad_cams
from pretrain.evaluation.labels import write_beside
from pretrain.evaluation.looks import FOLDER, LAM, find_looks, read_look
from pretrain.plots import DRAWN_LAMBDAS, draw_mixed_columns, draw_mixes, mix_over_lambda, styles_of

RIGHT, WRONG = "#0072b2", "#d55e00"  # Okabe and Ito's, which everybody tells apart
PANELS_IN_A_ROW = 4
MOST_EPOCHS, MOST_PAIRS = 10, 2  # columns and rows of masks over training
COLUMNS = 10  # of pictures beside each other, up to which several pairs stand in a row
NAME_LETTERS = 13  # of a class, above a picture
TIME_UNITS = ((1, "s"), (60, "min"), (3600, "h"), (86400, "days"))
WIDE = 10.0  # times between the fastest and the slowest method from which the time axis is logarithmic


def draw_calibration(found: Mapping[str, Calibration]) -> Figure:
    """Draw reliability diagrams (Fig. 8; Guo et al., ICML 2017), one a name, with the confidences' distribution below.

    Bars are the accuracy of the images in each bin of confidence; hatched is the gap to their mean confidence. Gaps,
    weighted by the images that the bins hold, are the ECE.

    Args:
        found: What `calibration` measured, by name.
    """
    columns = min(len(found), PANELS_IN_A_ROW)
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(2.4 * columns + 0.9, 3.7 * rows + 0.6), layout="constrained")
    grid = figure.subplots(2 * rows, columns, sharex=True, squeeze=False, height_ratios=[3, 1] * rows)
    tallest = max(100 * max(each.counts) / sum(each.counts) for each in found.values())
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (name, each) in enumerate(found.items()):
        row, column = divmod(number, columns)
        upper, lower = grid[2 * row, column], grid[2 * row + 1, column]
        _draw_reliability(upper, each)
        _draw_confidences(lower, each)
        upper.set_title(f"{name}\nECE {each.ece:.1f} %", fontsize=10)
        upper.set(ylim=(0, 1))
        lower.set(ylim=(0, 1.05 * tallest), xlabel="confidence")
        lower.tick_params(labelbottom=True)
        for axes, label in ((upper, "accuracy"), (lower, "images (%)")):
            axes.set(xlim=(0, 1), xticks=(0, 0.5, 1))
            axes.tick_params(labelsize=8, labelleft=column == 0)
            axes.set_ylabel(label if column == 0 else "")
    entries: list[Any] = [
        Patch(facecolor="#bdd7e7", edgecolor="black", lw=0.5, label="accuracy"),
        Patch(facecolor="none", edgecolor=WRONG, hatch="////", lw=0, label="too confident by"),
        Patch(facecolor="none", edgecolor=RIGHT, hatch="\\\\\\\\", lw=0, label="too cautious by"),
        *grid[0, 0].lines[:1],
        *grid[1, 0].lines[:2],
    ]
    beside = {1: 2, 2: 3, 3: 3}.get(columns, len(entries))
    figure.legend(handles=entries, loc="outside lower center", ncols=beside, fontsize=8, frameon=False)
    return figure


def _draw_reliability(axes: Any, each: Calibration) -> None:
    bins = len(each.counts)
    axes.set_axis_on()
    for place, (accuracy, confidence) in enumerate(zip(each.accuracy, each.confidence, strict=True)):
        if accuracy is None or confidence is None:
            continue
        where = {"x": place / bins, "width": 1 / bins, "align": "edge"}
        axes.bar(height=accuracy, facecolor="#bdd7e7", edgecolor="black", lw=0.5, **where)
        colour, hatch = (WRONG, "////") if confidence > accuracy else (RIGHT, "\\\\\\\\")
        gap = confidence - accuracy
        axes.bar(height=gap, bottom=accuracy, facecolor="none", edgecolor=colour, hatch=hatch, lw=0, **where)
    axes.plot((0, 1), (0, 1), color="#cc0000", lw=1.2, label="confidence = accuracy")


def _draw_confidences(axes: Any, each: Calibration) -> None:
    counts = np.array(each.counts)
    shares = counts / counts.sum()
    axes.set_axis_on()
    axes.bar(np.arange(len(counts)) / len(counts), 100 * shares, 1 / len(counts), align="edge", color="#969696")
    for values, style, label in ((each.confidence, "-", "mean confidence"), (each.accuracy, ":", "mean accuracy")):
        mean = sum(share * value for share, value in zip(shares, values, strict=True) if value is not None)
        axes.axvline(mean, color="black", ls=style, lw=1.5, label=label)


def draw_mixed_cams(
    model: nn.Module,
    card: BackboneCard,
    images: Tensor,
    labels: Tensor,
    mixes: Mapping[str, Callable[[Tensor, Tensor], Tensor]],
) -> Figure:
    """Draw pairs, their mix by several methods, and Grad-CAM of the two classes that the network finds in it (Fig. 3).

    Args:
        model: A classifier in eval mode; see `grad_cams`.
        card: Its card: names of the classes, normalisation.
        images: (2 P, 3, H, W) float in [0, 1], on the model's device; neighbours are mixed.
        labels: (2 P,) int64, their classes.
        mixes: By name: normalised images (2 P, 3, H, W) and partners (2 P,) int64 to mixed ones, normalised.

    Raises:
        UserError: The grad-cam library is not installed, or the network has no feature map to look at.
    """
    mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (card.mean, card.std))
    partners = torch.arange(len(images), device=images.device) ^ 1
    figure, blocks = _blocks(len(images) // 2, len(mixes) + 1)
    for number, (image, label) in enumerate(zip(images.cpu(), labels.tolist(), strict=True)):
        axes = blocks[number // 2][number % 2, 0]
        axes.imshow(image.permute(1, 2, 0).numpy())
        axes.set_title(f"{'ij'[number % 2]}: {_short(card.classes[label])}", fontsize=8)
    for column, (name, mix) in enumerate(mixes.items(), start=1):
        with torch.no_grad():
            mixed = mix((images - mean) / std, partners)[::2]
            probabilities, best = model(mixed).softmax(dim=1).topk(2)
        heat = torch.stack([grad_cams(model, mixed, best[:, place]) for place in (0, 1)], dim=1).numpy()
        seen = (mixed * std + mean).clamp(0, 1).cpu().permute(0, 2, 3, 1).numpy()
        for pair, block in enumerate(blocks):
            block[0, column].imshow(seen[pair])
            block[0, column].set_title(name, fontsize=9)
            for place, axes in enumerate(block[1:, column]):
                label = int(best[pair, place])
                of_pair = label in labels[2 * pair : 2 * pair + 2]
                _draw_heat(axes, seen[pair], heat[pair, place], RIGHT if of_pair else WRONG)
                mark = "\u2713" if of_pair else "\u2717"
                axes.set_title(
                    f"{mark} {_short(card.classes[label])} {float(probabilities[pair, place]):.2f}", fontsize=8
                )
    return figure


def _blocks(pairs: int, columns: int) -> tuple[Figure, list[Any]]:
    """Return a figure, and its axes (3, columns) for each pair; the lower left ones explain the picture."""
    across = min(pairs, max(1, COLUMNS // columns))
    down = -(-pairs // across)
    figure = Figure(figsize=(1.3 * columns * across, 1.46 * 3 * down), layout="constrained")
    grid = figure.subplots(3 * down, columns * across, squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=(), yticks=())
        axes.spines[:].set_visible(False)
    blocks = [
        grid[3 * row : 3 * row + 3, columns * place : columns * (place + 1)]
        for row in range(down)
        for place in range(across)
    ]
    note = "Grad-CAM of the\ntwo classes that\nlead, and their\nprobabilities:\n\u2713 of the pair\n\u2717 of neither"
    for block in blocks[:pairs]:
        block[2, 0].text(0, 0.5, note, fontsize=8, va="center", transform=block[2, 0].transAxes).set_in_layout(False)
    return figure, blocks[:pairs]


def _draw_heat(axes: Any, image: Any, heat: Any, colour: str) -> None:
    axes.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=1)
    axes.imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.55)
    axes.spines[:].set(visible=True, color=colour, linewidth=2)


def _short(name: str) -> str:
    return name if len(name) <= NAME_LETTERS else f"{name[: NAME_LETTERS - 1]}\u2026"


def draw_masks_over_training(folder: Path) -> Figure:
    """Draw mixed images and masks of lambda = 0.5 at the epochs at which a run looked at them (Fig. 7).

    Args:
        folder: Of a run; of many epochs ten are drawn, the first and the last among them, and of many pairs two.

    Raises:
        UserError: The run left no masks, they are damaged, or they are not of the same pairs at all epochs.
    """
    files = find_looks(folder)
    if not files:
        reason = "only runs of AutoMix look at masks"
        if find_looks(folder, ".png"):
            reason = "it was made before runs kept them; train again for this picture"
        raise UserError(f"{folder}: no masks in {FOLDER}/epoch_*.safetensors: {reason}")
    looks = {epoch: read_look(path) for epoch, path in files.items()}
    epochs = list(looks)
    pairs = looks[epochs[0]].pairs
    for epoch, look in looks.items():
        if not torch.equal(look.pairs, pairs):
            raise UserError(f"{files[epoch]}: other images than at epoch {epochs[0]}; delete what is of another run")
    places = np.linspace(0, len(epochs) - 1, min(len(epochs), MOST_EPOCHS)).round().astype(int)
    drawn = [epochs[place] for place in places]
    mixed = torch.stack([looks[epoch].mixed()[:MOST_PAIRS] for epoch in drawn], dim=1)
    masks = torch.stack([looks[epoch].masks[:MOST_PAIRS].float() for epoch in drawn], dim=1)
    return draw_mixed_columns(
        pairs.float() / 255, mixed, masks, [f"epoch {epoch}" for epoch in drawn], f"$\\lambda$ = {LAM:g}"
    )


@torch.no_grad()
def draw_masks_over_lambda(
    block: MixBlock,
    network: nn.Module,
    images: Tensor,
    card: BackboneCard,
    lambdas: Sequence[float] = DRAWN_LAMBDAS,
    credit: str = "",
) -> Figure:
    """Draw mixed images and masks over lambda (Figs. 5, 12 and 13) from what a run of AutoMix exported.

    Args:
        block: The Mix Block, in eval mode (`load_mix_block`).
        network: The teacher beside it, in eval mode (`load_backbone`).
        images: (2 P, 3, H, W) float in [0, 1], on the network's device; neighbours are mixed.
        card: The teacher's, which says how images are normalised and which stage the block reads.
        lambdas: Shares of the first image of a pair.
        credit: A line below the picture.

    Raises:
        UserError: The block is not the one of this network.
    """
    layer = card.training.get("method", {}).get("feature_layer", AutoMixSettings().feature_layer)
    if (channels := stage_channels(network, layer)) != (read := block.settings.in_channels):
        raise UserError(f"the Mix Block reads {read} channels and stage {layer} of {card.arch} has {channels}")
    mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in (card.mean, card.std))
    normalised = (images - mean) / std
    mixed, masks = mix_over_lambda(block, stage_features(network, normalised, layer), normalised, lambdas)
    return draw_mixes(images.cpu(), (mixed * std + mean).clamp(0, 1).cpu(), masks.cpu(), lambdas, credit)


def draw_accuracy_over_time(found: Mapping[str, tuple[float, float, float | None]], counted: str = "") -> Figure:
    """Draw the accuracy of each method against its training time (Fig. 1), each point with its name.

    Args:
        found: By method: training time in seconds, top-1 accuracy in percent, and its standard deviation over seeds;
            None: there is one seed, and no error bar.
        counted: What the time is in instead of seconds, for the axis.
    """
    times = [seconds for seconds, _, _ in found.values()]
    fitting = next((each for each in reversed(TIME_UNITS) if max(times) >= 2 * each[0]), TIME_UNITS[0])
    unit, word = (1, counted) if counted else fitting
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.subplots()
    for name, style in styles_of(found).items():
        seconds, top1, std = found[name]
        axes.plot(seconds / unit, top1, style.marker, color=style.colour, ms=8, mec="white", mew=0.6, zorder=3)
        axes.errorbar(seconds / unit, top1, yerr=std, ls="", ecolor=style.colour, capsize=3)
    if min(times) > 0 and max(times) > WIDE * min(times):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.12)
    axes.set(xlabel=f"training time ({word})", ylabel="top-1 accuracy (%)")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    write_beside(axes, {name: (seconds / unit, top1, std or 0.0) for name, (seconds, top1, std) in found.items()})
    return figure
