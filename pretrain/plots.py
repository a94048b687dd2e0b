"""Pictures of a pretraining: curves, and what the Mix Block makes of a pair; and how every method looks in a plot."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from torch import Tensor

from pretrain.automix import MixBlock
from pretrain.files import atomic_path


class Style(NamedTuple):
    """How a method is drawn: its colour, and matplotlib's names of its line and its marker."""

    colour: str
    line: str
    marker: str


# Eighteen colours that everybody tells apart do not exist. Those of one line style are told apart with any of the usual
# colour-blindnesses (the first six are Okabe and Ito's), and no two methods share a marker and a line style.
STYLES = {
    "automix": Style("#0072b2", "-", "o"),
    "vanilla": Style("#d55e00", "-", "s"),
    "mixup": Style("#009e73", "-", "^"),
    "cutmix": Style("#cc79a7", "-", "v"),
    "resizemix": Style("#56b4e9", "-", "D"),
    "puzzlemix": Style("#e69f00", "-", "P"),
    "manifoldmix": Style("#01665e", "--", "^"),
    "fmix": Style("#e7298a", "--", "v"),
    "saliencymix": Style("#b2abd2", "--", "D"),
    "attentivemix": Style("#666633", "--", "s"),
    "comixup": Style("#66a61e", "--", "P"),
    "supermix": Style("#222255", "--", "o"),
    "augmix": Style("#7f3b08", "-.", "s"),
    "alignmix": Style("#80cdc1", "-.", "^"),
    "transmix": Style("#a6761d", "-.", "v"),
    "random_grids": Style("#004488", "-.", "P"),
    "random_choice": Style("#4d4d4d", "-.", "D"),
    "random": Style("#7f7f7f", ":", "X"),  # random weights
}
COLOURS = {name: style.colour for name, style in STYLES.items()}
OTHER_STYLES = [Style("#000000", ("-", "--", "-.", ":")[i % 4], "*<>hpdH"[i % 7]) for i in range(28)]
COLOURS_IN_FILE = 128
DRAWN_LAMBDAS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)


def styles_of(names: Iterable[str]) -> dict[str, Style]:
    """Return how each of several curves or points is drawn: methods as everywhere, in upper or lower case.

    Other names, such as those of ablations, are black and differ by line and marker, in their order.
    """
    others = 0
    styles = {}
    for name in names:
        if name.lower() in STYLES:
            styles[name] = STYLES[name.lower()]
        else:
            styles[name] = OTHER_STYLES[others % len(OTHER_STYLES)]
            others += 1
    return styles


def save_png(figure: Figure, path: str | Path, dpi: int = 100) -> None:
    """Write a figure atomically, in a palette of few colours: a third of the bytes where it shows photographs."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    with Image.open(drawn) as picture, atomic_path(path) as temporary:
        small = picture.convert("RGB").quantize(COLOURS_IN_FILE, dither=Image.Dither.NONE)
        small.save(temporary, format="png")


def draw_curves(
    logs: dict[str, list[dict[str, Any]]], branches: dict[str, str], per_epoch: int | None = None
) -> Figure:
    """Draw the losses by step and the top-1 accuracy by step and by training time.

    Args:
        logs: For each method the entries of its log (`read_log`).
        branches: For each method the network whose accuracy is its result; others of the method are drawn thinner.
        per_epoch: Steps an epoch, to print epochs on the upper axis; left out where None.
    """
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    losses, by_step, by_time = figure.subplots(1, 3)
    styles = styles_of(logs)
    for method, entries in logs.items():
        colour, _, marker = styles[method]  # the line says which loss or which network it is
        steps = [entry for entry in entries if "total" in entry]
        for key, style in (("ce", "-"), ("mixed_ce", "--"), ("generation_ce", ":")):
            if steps and key in steps[0]:
                label = f"{method}: {key.replace('_', ' ')}"
                losses.plot([e["step"] for e in steps], [e[key] for e in steps], style, color=colour, lw=1, label=label)
        epochs = [entry for entry in entries if "epoch" in entry]
        for key in [key for key in epochs[-1] if key.endswith("_top1")]:
            network = key.removesuffix("_top1")
            main = network == branches[method]
            look = {"color": colour, "lw": 2 if main else 1, "ls": "-" if main else "--", "marker": marker, "ms": 3}
            label = method if network == "model" else f"{method}, {network}"
            by_step.plot([e["step"] for e in epochs], [e[key] for e in epochs], label=label, **look)
            by_time.plot([e["elapsed"] for e in epochs], [e[key] for e in epochs], label=label, **look)
    losses.set(xlabel="step", ylabel="loss", title="Losses", ylim=(0, None))
    by_step.set(xlabel="step", ylabel="top-1 accuracy (%)", title="Validation, equal steps", ylim=(0, None))
    by_time.set(xlabel="training time (s)", title="Validation, equal time", ylim=(0, None))
    if per_epoch:
        upper = by_step.secondary_xaxis("top", functions=(lambda s: s / per_epoch, lambda e: e * per_epoch))
        upper.tick_params(labelsize=7)
        upper.xaxis.set_major_locator(MaxNLocator(integer=True))
        by_step.set_title("Validation, equal steps (above: epochs)")
    for axes in (losses, by_step, by_time):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False)
    return figure


@torch.no_grad()
def mix_over_lambda(
    block: MixBlock, features: Tensor, images: Tensor, lambdas: Sequence[float] = DRAWN_LAMBDAS
) -> tuple[Tensor, Tensor]:
    """Mix neighbours: image 0 with 1, 2 with 3, and so on, for every lambda.

    Args:
        block: The Mix Block, in eval mode.
        features: (2 P, C, h, w), the images' feature maps that the block reads.
        images: (2 P, 3, H, W) float, normalised.
        lambdas: Shares of the first image.

    Returns:
        Mixed images (P, L, 3, H, W), normalised, and the masks of the first images (P, L, 1, H, W).
    """
    partners = torch.arange(len(images), device=images.device) ^ 1
    size = (images.shape[-2], images.shape[-1])
    masks = torch.stack([block(features, partners, lam, size) for lam in lambdas], dim=1)[::2]
    first, second = images[::2, None], images[1::2, None]
    return masks * first + (1 - masks) * second, masks


def draw_mixes(
    pairs: Tensor, mixed: Tensor, masks: Tensor, lambdas: Sequence[float] = DRAWN_LAMBDAS, credit: str = ""
) -> Figure:
    """Draw for each pair a row of mixed images and a row of masks over lambda (Figs. 5, 12 and 13).

    Args:
        pairs: (2 P, 3, H, W) in [0, 1]: the images that were mixed, neighbours belonging together.
        mixed: (P, L, 3, H, W) in [0, 1].
        masks: (P, L, 1, H, W) in [0, 1], the weight of a pair's first image.
        lambdas: The L shares that were asked for.
        credit: A line below the picture.
    """
    return draw_mixed_columns(pairs, mixed, masks, [f"$\\lambda$ = {lam:g}" for lam in lambdas], credit)


def draw_mixed_columns(
    pairs: Tensor, mixed: Tensor, masks: Tensor, headings: Sequence[str], credit: str = ""
) -> Figure:
    """Draw what `draw_mixes` does over anything, with a heading for each of the L columns."""
    rows, columns = 2 * len(mixed), len(headings) + 2
    figure = Figure(figsize=(1.15 * columns, 1.22 * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for pair in range(len(mixed)):
        upper, lower = grid[2 * pair], grid[2 * pair + 1]
        for column, source, name in ((0, 2 * pair, "image i"), (columns - 1, 2 * pair + 1, "image j")):
            upper[column].imshow(pairs[source].permute(1, 2, 0).numpy())
            upper[column].set_title(name, fontsize=8)
        for column, heading in enumerate(headings, start=1):
            mask = masks[pair, column - 1, 0]
            upper[column].imshow(mixed[pair, column - 1].permute(1, 2, 0).numpy())
            upper[column].set_title(heading, fontsize=8)
            lower[column].imshow(mask.numpy(), vmin=0, vmax=1, cmap="viridis")
            lower[column].set_title(f"mask mean {float(mask.mean()):.2f}", fontsize=7)
    if credit:
        figure.supxlabel(credit, fontsize=7)
    figure.draw_without_rendering()  # of so many axes the layout takes as long as the drawing: it is made once
    figure.set_layout_engine("none")
    return figure
