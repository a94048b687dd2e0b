"""A picture of what every mixing method makes of the same pairs: mixed images, masks and label weights over lambda."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain import mixups
from pretrain.backbones import load_pretrained
from pretrain.console import UserError, did_you_mean
from pretrain.data.datasets import read_image
from pretrain.data.transforms import Normalise, TransformSettings, eval_transform
from pretrain.files import atomic_path
from pretrain.mixups import MixContext, MixPolicy, MixResult, training_context
from pretrain.mixups.transmix import TransMixResult, refine

DRAWN_LAMBDAS = (0.1, 0.3, 0.5, 0.7, 0.9)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SHARE_TO_NAME = 0.005  # images with a smaller part in a label are not named


@dataclass(frozen=True)
class Panel:
    """One mix.

    Attributes:
        image: (3, H, W) float in [0, 1].
        mask: (h, w), the weight of the pair's first image; or int64, the image that weighs most; None: there is none.
        label: What the soft label weighs, such as "A .70  B .30".
    """

    image: Tensor
    mask: Tensor | None
    label: str


Row = list[list[Panel]] | str  # for each pair its panels; or a sentence on why there is nothing to see


def show_mixes(
    paths: Sequence[Path],
    out: Path,
    methods: Sequence[str] = ("all",),
    lambdas: Sequence[float] = DRAWN_LAMBDAS,
    network: str | None = None,
    transformer: str | None = None,
    size: int = 224,
    seed: int = 0,
) -> dict[str, str]:
    """Draw the gallery of image files.

    Args:
        paths: An even number of image files; neighbours belong together.
        out: The picture, in any of matplotlib's formats.
        methods: Names, or "all".
        lambdas: Shares of the first image of a pair.
        network, transformer: See `pretrain.backbones.load_pretrained`; for methods that follow a network.
        size: Images are resized to it by their short side, and cropped in the centre.
        seed: Of what is drawn beside lambda.

    Returns:
        The methods that were left out, and why.

    Raises:
        UserError: A file cannot be read, their number is odd, or a name, a lambda, the size or the ending of `out` is
            impossible.
    """
    names = sorted(mixups.POLICIES) if "all" in methods else list(methods)
    if unknown := [name for name in names if name not in mixups.POLICIES]:
        raise UserError(f"unknown mixing method '{unknown[0]}'{did_you_mean(unknown[0], list(mixups.POLICIES))}")
    if len(paths) % 2 or len(paths) > len(LETTERS):
        raise UserError(
            f"neighbours are mixed, so the number of images has to be even and at most 26, not {len(paths)}"
        )
    if odd := [lam for lam in lambdas if not 0 <= lam <= 1]:
        raise UserError(f"lambda has to be in [0, 1], not {odd[0]}")
    if size < 1:
        raise UserError(f"the size has to be at least one pixel, not {size}")
    formats = Figure().canvas.get_supported_filetypes()
    if out.suffix.removeprefix(".").lower() not in formats:
        raise UserError(f"{out}: no picture can be written under this ending; known: {', '.join(sorted(formats))}")
    crop = eval_transform(TransformSettings(size=size, test_crop_ratio=1.0))
    pixels = torch.stack([crop(read_image(path)) for path in paths])
    images, targets = Normalise()(pixels), F.one_hot(torch.arange(len(pixels)), len(pixels)).float()
    trained = load_pretrained(network) if network else None
    context = training_context(trained or nn.Identity(), _agreement, trained)
    looking = load_pretrained(transformer) if transformer else None
    rows: dict[str, Row] = {}
    for name in names:
        policy = mixups.build(name)
        if policy.views is not None:
            rows[name] = views(policy, pixels, len(lambdas), seed)
        elif not policy.mixes_images:
            rows[name] = "is MixUp on part of the batches; on the others it mixes feature maps inside the network"
        elif {"saliency", "features", "teacher"} & set(policy.needs) and trained is None:
            rows[name] = "follows a network: name one by --network"
        else:
            rows[name] = panels(policy, images, targets, context, lambdas, seed, looking)
    figure = draw_gallery(pixels.float() / 255, rows, lambdas)
    with atomic_path(out) as temporary:
        figure.savefig(temporary, dpi=110)
    return {name: row for name, row in rows.items() if isinstance(row, str)}


def _agreement(logits: Tensor, _: Tensor) -> Tensor:
    """Return the cross-entropy against the network's own predictions: images from anywhere have no label of its."""
    return F.cross_entropy(logits, logits.detach().argmax(dim=1))


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
        transformer: The network whose attention refines TransMix's labels; None: they stay by area.

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


def views(policy: Any, pixels: Tensor, count: int, seed: int = 0) -> list[list[Panel]]:
    """Return augmented views of the first image of each pair, of uint8 images (2 P, 3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for number in range(0, len(pixels), 2):
        made = [policy.views(pixels[number], generator)[1] for _ in range(count)]
        rows.append([Panel(view.float() / 255, None, f"a view of {LETTERS[number]}") for view in made])
    return rows


def _panel(result: MixResult, first: int) -> Panel:
    weights = result.weights[first]
    named = [number for number in range(len(weights)) if weights[number] > SHARE_TO_NAME]
    words = [f"{LETTERS[number]} {float(weights[number]):.2f}".replace("0.", ".") for number in named]
    label = "\n".join("  ".join(words[start : start + 2]) for start in range(0, len(words), 2))
    mask = result.mask
    if mask is not None:
        mask = mask[first].argmax(dim=0) if len(mask[first]) > 1 else mask[first, 0]
    return Panel(Normalise().inverse(result.images[first].float()[None])[0], mask, label)


def draw_gallery(images: Tensor, rows: dict[str, Row], lambdas: Sequence[float] = DRAWN_LAMBDAS) -> Figure:
    """Draw a line of mixed images and a line of masks for each method.

    Args:
        images: (2 P, 3, H, W) in [0, 1], the pairs.
        rows: For each method what there is to see.
        lambdas: The shares that were asked for.
    """
    pairs, per_pair = len(images) // 2, len(lambdas)
    heights = [1.0, 0.25] + [height for row in rows.values() for height in _heights(row)]
    widths = [1.2] + [1.0] * (pairs * per_pair)
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    figure = Figure(figsize=(1.05 * sum(widths), 1.15 * sum(heights) + 0.3), layout=layout)
    ratios = {"height_ratios": heights, "width_ratios": widths}
    grid = figure.subplots(len(heights), len(widths), squeeze=False, gridspec_kw=ratios)
    for axes in grid.flat:
        axes.set_axis_off()
    for pair in range(pairs):
        for column, number in ((1, 2 * pair), (per_pair, 2 * pair + 1)):
            axes = grid[0, pair * per_pair + column]
            axes.imshow(images[number].permute(1, 2, 0).numpy())
            axes.set_title(f"image {LETTERS[number]}", fontsize=8)
        for column, lam in enumerate(lambdas, start=1):
            _write(grid[1, pair * per_pair + column], f"$\\lambda$ = {lam:g}", 0.5, fontsize=9, ha="center")
    line = 2
    for name, row in rows.items():
        _write(grid[line, 0], name, 0.0, fontsize=10)
        if isinstance(row, str):
            _write(grid[line, 1], row, 0.0, fontsize=9)
        else:
            below = grid[line + 1, 1:] if len(_heights(row)) == 2 else [None] * (pairs * per_pair)
            for upper, lower, panel in zip(grid[line, 1:], below, (p for pair in row for p in pair), strict=True):
                _draw_panel(upper, lower, panel)
        line += len(_heights(row))
    return figure


def _write(axes: Any, text: str, x: float, **look: Any) -> None:
    """Write across an empty cell and beyond it, which must not widen the cell."""
    axes.text(x, 0.5, text, va="center", transform=axes.transAxes, **look).set_in_layout(False)


def _heights(row: Row) -> tuple[float, ...]:
    """Return the heights of a method's lines, in images."""
    if isinstance(row, str):
        return (0.3,)
    return (1.0, 1.0) if any(panel.mask is not None for pair in row for panel in pair) else (1.0,)


def _draw_panel(upper: Any, lower: Any, panel: Panel) -> None:
    upper.imshow(panel.image.permute(1, 2, 0).numpy())
    upper.set_title(panel.label, fontsize=6.5, pad=2)
    if panel.mask is not None and panel.mask.dtype == torch.int64:
        lower.imshow(panel.mask.numpy(), vmin=0, vmax=9, cmap="tab10")
    elif panel.mask is not None:
        lower.imshow(panel.mask.float().numpy(), vmin=0, vmax=1, cmap="viridis")
