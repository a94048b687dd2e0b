"""A picture of what every mixing method makes of the same pairs: mixed images, masks and label weights over lambda."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor, nn

from pretrain.data.transforms import Normalise
from pretrain.mixups import MixContext, MixPolicy, MixResult
from pretrain.mixups.transmix import TransMixResult, refine

DRAWN_LAMBDAS = (0.1, 0.3, 0.5, 0.7, 0.9)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Panel:
    """One mix.

    Attributes:
        image: (3, H, W) float in [0, 1].
        mask: (H, W), the weight of the pair's first image at each pixel; or (h, w) int64, the image that weighs most in
            each block; None where there is none.
        label: What the soft label weighs, such as "A .70  B .30".
    """

    image: Tensor
    mask: Tensor | None
    label: str


def panels(
    policy: MixPolicy,
    images: Tensor,
    targets: Tensor,
    context: MixContext,
    lambdas: Sequence[float] = DRAWN_LAMBDAS,
    seed: int = 0,
    transformer: nn.Module | None = None,
) -> list[list[Panel]]:
    """Mix neighbours for every lambda: image A with B, C with D, and so on.

    Args:
        policy: A method that mixes images.
        images: (2 P, 3, H, W) float, normalised.
        targets: (2 P, K) float.
        context: What the method needs.
        lambdas: Shares of the first image of a pair; methods that draw no lambda are drawn anew instead.
        seed: Of everything else that is drawn.
        transformer: The network whose attention refines the labels, for methods that ask for attention.

    Returns:
        For each pair its panels, one for each lambda.
    """
    partners = torch.arange(len(images)) ^ 1
    size = (images.shape[-2], images.shape[-1])
    columns = []
    for column, lam in enumerate(lambdas):
        generator = torch.Generator().manual_seed(seed + column)
        draw = policy.sample(len(images), size, generator, lam=lam, index=partners)
        result = policy.apply(images, targets, draw, context)
        if transformer is not None and isinstance(result, TransMixResult):
            with torch.no_grad(), result.attention(transformer) as maps:
                transformer(result.images)
            result = refine(result, maps[0])
        columns.append([_panel(result, first) for first in range(0, len(images), 2)])
    return [list(pair) for pair in zip(*columns, strict=True)]


def _panel(result: MixResult, first: int) -> Panel:
    weights = result.weights[first]
    shown = [int(i) for i in weights.argsort(descending=True) if weights[i] > 0.005]
    label = "  ".join(f"{LETTERS[i % 26]} {float(weights[i]):.2f}".replace("0.", ".") for i in sorted(shown))
    mask = result.mask
    if mask is not None:
        mask = mask[first].argmax(dim=0) if len(mask[first]) > 1 else mask[first, 0]
    return Panel(Normalise().inverse(result.images[first].float()[None])[0], mask, label)


def draw_gallery(
    images: Tensor, rows: dict[str, list[list[Panel]] | str], lambdas: Sequence[float] = DRAWN_LAMBDAS, credit: str = ""
) -> Figure:
    """Draw a row of mixed images and a row of masks for each method.

    Args:
        images: (2 P, 3, H, W) in [0, 1], the pairs.
        rows: For each method what `panels` returned, or a sentence on why there is nothing to see.
        lambdas: The shares that were asked for.
        credit: A line below the picture.
    """
    pairs, per_pair = len(images) // 2, len(lambdas)
    heights = [1.0] + [height for row in rows.values() for height in ((0.35,) if isinstance(row, str) else (1.0, 1.0))]
    widths = [0.9] + [1.0] * (pairs * per_pair)
    figure = Figure(
        figsize=(0.95 * sum(widths), 1.13 * sum(heights) + 0.4),
        layout=ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.01, hspace=0.01),
    )
    grid = figure.subplots(
        len(heights), len(widths), squeeze=False, gridspec_kw={"height_ratios": heights, "width_ratios": widths}
    )
    for axes in grid.flat:
        axes.set_axis_off()
    for pair in range(pairs):
        for column, number in ((1, 2 * pair), (per_pair, 2 * pair + 1)):
            axes = grid[0, pair * per_pair + column]
            axes.imshow(images[number].permute(1, 2, 0).numpy())
            axes.set_title(f"image {LETTERS[number % 26]}", fontsize=8)
    line = 1
    for name, row in rows.items():
        grid[line, 0].text(0, 0.5, name, fontsize=9, va="center", transform=grid[line, 0].transAxes)
        if isinstance(row, str):
            grid[line, 1].text(0, 0.5, row, fontsize=8, va="center", transform=grid[line, 1].transAxes)
            line += 1
            continue
        for column, panel in enumerate((panel for pair in row for panel in pair), start=1):
            _draw_panel(grid[line, column], grid[line + 1, column], panel, lambdas[(column - 1) % per_pair])
        line += 2
    if credit:
        figure.supxlabel(credit, fontsize=7)
    return figure


def _draw_panel(upper: Any, lower: Any, panel: Panel, lam: float) -> None:
    upper.imshow(panel.image.permute(1, 2, 0).numpy())
    upper.set_title(f"$\\lambda$ = {lam:g}", fontsize=6, pad=2)
    if panel.mask is not None and panel.mask.dtype == torch.int64:
        lower.imshow(panel.mask.numpy(), vmin=0, vmax=9, cmap="tab10")
    elif panel.mask is not None:
        lower.imshow(panel.mask.float().numpy(), vmin=0, vmax=1, cmap="viridis")
    lower.set_title(panel.label, fontsize=6, pad=2)
