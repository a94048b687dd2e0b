"""PuzzleMix (Kim, Choo and Song, ICML 2020): masks and block moves that keep what is salient in both images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data.constants import IMAGENET_DEFAULT_STD
from torch import Tensor

from pretrain.mixups.block_transport import block_means, move_blocks, transport_plan, upsample
from pretrain.mixups.graph_cut import convex_cut
from pretrain.mixups.policy import Draw, MixContext, MixResult, PairPolicy, mix_targets, require_positive

Array = NDArray[Any]

_NEIGHBOURHOOD = 4  # pixels on each side of a border that are compared; the reference's neigh_size
_LOG_ZERO = -1e6  # so that lam = 0 and lam = 1 outweigh every other cost, yet stay finite


@dataclass(frozen=True)
class BlockDraw(Draw):
    """How many blocks a side of the image is cut into."""

    blocks: int


@dataclass(frozen=True)
class PuzzleMix(PairPolicy):
    """Each block shows image i, its partner or half of both, by a graph cut; then each image's blocks are rearranged.

    The mask z in {0, 1/2, 1} minimises the saliency that it hides, plus `beta` times how uneven it is, plus `gamma`
    times how uneven the mixed image is at the borders of blocks, minus `eta` log p(z), p binomial with probability lam.
    Given z, blocks of each image move to where they are seen. lam becomes the mean of z. Scales and default settings
    are those of the authors' code, github.com/snu-mllab/PuzzleMix, mixup.py and main.py.

    Sides that are no multiple of the number of blocks are cut into blocks that differ by a pixel, and a side shorter
    than that number into its pixels. A block only moves to places of its own size.

    Attributes:
        alpha: lambda ~ Beta(alpha, alpha).
        beta: Weight of the label smoothness.
        gamma: Weight of the data local smoothness, in units of beta.
        eta: Weight of the prior.
        eps: Price of transport (xi in the paper).
        std: By what the images' channels were divided; the data local smoothness compares images in [0, 1].
    """

    name: ClassVar[str] = "puzzlemix"
    needs: ClassVar[tuple[str, ...]] = ("saliency",)
    beta: float = 1.2
    gamma: float = 0.5
    eta: float = 0.2
    eps: float = 0.8
    std: tuple[float, float, float] = IMAGENET_DEFAULT_STD

    def __post_init__(self) -> None:
        """Check the settings; a ValueError names the wrong one."""
        super().__post_init__()
        require_positive(self.name, eps=self.eps)
        for key in ("beta", "gamma", "eta", "eps"):
            if not 0 <= getattr(self, key) < math.inf:
                raise ValueError(f"{self.name}: {key} has to be finite and not negative, not {getattr(self, key)}")
        if len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise ValueError(f"{self.name}: std has to be three positive numbers, not {self.std}")

    def draw_more(self, pairs: Draw, n: int, size: tuple[int, int], generator: torch.Generator | None) -> BlockDraw:
        """Draw 2, 4, 8 or 16 blocks a side; see `PairPolicy`."""
        return BlockDraw(pairs.lam, pairs.index, 2 ** int(torch.randint(1, 5, (), generator=generator)))

    def apply(self, images: Tensor, targets: Tensor, draw: BlockDraw, context: MixContext | None = None) -> MixResult:
        """See `MixPolicy`."""
        size = (images.shape[-2], images.shape[-1])
        grid = (min(draw.blocks, size[0]), min(draw.blocks, size[1]))
        saliency = _shares(self.ask(context, "saliency")(images, targets).detach(), grid)
        partner = draw.index.numpy()
        labels = convex_cut(*self.costs(images.detach(), saliency, partner, draw.lam, grid))

        both = np.concatenate([saliency, saliency[partner]]), np.concatenate([labels > 0, labels < 2])
        own, other = np.split(transport_plan(*both, self.eps, size), 2)
        index = draw.index.to(images.device, non_blocking=True)
        mask = upsample(torch.from_numpy(labels).to(images.device)[:, None].float() / 2, size)
        weight = mask.to(images.dtype)
        mixed = weight * move_blocks(images, own, grid) + (1 - weight) * move_blocks(images[index], other, grid)
        lam = mask.mean((1, 2, 3))
        return MixResult(mixed, lam, index, mask, mix_targets(targets, index, lam))

    def costs(
        self, images: Tensor, saliency: Array, partner: Array, lam: float, grid: tuple[int, int]
    ) -> tuple[Array, Array, Array]:
        """Return the costs of `convex_cut`, by blocks; label l shows l / 2 of image i.

        A border's cost is any function of the two images at its sides. For masks of zeros and ones it is split, as in
        the authors' code, into what each block pays whatever its neighbour shows and what they pay for differing; a
        half pays half of each. They pay nothing rather than a negative cost, which only images outside [0, 1] can ask.

        Args:
            images: (N, 3, H, W) float, normalised.
            saliency: (N, h, w) float, of each block, summing to one.
            partner: (N,) int64.
            lam: Of the prior.
            grid: (h, w).

        Returns:
            unary (N, 3, h, w), down (N, h - 1, w) and right (N, h, w - 1).
        """
        beta = self.beta / 16 / math.sqrt(grid[0] * grid[1])
        first, second = saliency[partner], saliency.copy()  # to show image i hides the partner, and the reverse
        weights = []
        index = torch.from_numpy(partner).to(images.device)
        borders = _borders(images.float() * images.new_tensor(self.std, dtype=torch.float32)[:, None, None], grid)
        for axis, (before, after) in zip((1, 2), borders):
            own, own_then_other, other_then_own = (
                beta * self.gamma * _border_cost(*sides, axis, grid)
                for sides in ((before, after), (before, after[index]), (before[index], after))
            )
            other = own[partner]
            for costs, head, tail in (
                (first, own + own_then_other, own + other_then_own),
                (second, other + other_then_own, other + own_then_other),
            ):
                by_border = costs.swapaxes(1, axis)
                by_border[:, :-1] += head.swapaxes(1, axis) / 2
                by_border[:, 1:] += tail.swapaxes(1, axis) / 2
            weights.append(np.maximum(beta + (own_then_other + other_then_own - own - other) / 2, 0))
        unary = np.stack([second, (first + second) / 2, first], axis=1)
        prior = self.eta / (grid[0] * grid[1]) * _surprise(lam)[:, None, None]
        return unary + prior, weights[0], weights[1]


def _shares(saliency: Tensor, grid: tuple[int, int]) -> Array:
    """Return (N, h, w) float64, each block's share of the saliency (N, H, W); equal shares where there is none."""
    means = block_means(saliency.float()[:, None], grid)[:, 0].cpu().double()
    total = means.sum((1, 2), keepdim=True)
    if not total.isfinite().all():
        raise ValueError("puzzlemix: the saliency is not finite; the gradient of the images is infinite or NaN")
    return torch.where(total > 0, means / total, 1 / means[0].numel()).numpy()


def _surprise(lam: float) -> Array:
    """Return -log p of 0, 1 and 2 successes in two trials with probability lam, (3,)."""
    log_lam, log_rest = (math.log(p) if p > 0 else _LOG_ZERO for p in (lam, 1 - lam))
    return np.array([-2 * log_rest, -math.log(2) - log_lam - log_rest, -2 * log_lam])


def _borders(images: Tensor, grid: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
    """Return, for lower and for right borders, the pixels before and after each, averaged over neighbourhoods.

    Args:
        images: (N, 3, H, W) float.
        grid: (h, w).

    Returns:
        Two pairs of tensors, (N, 3, h - 1, w * k) and (N, 3, h * k, w - 1) with k neighbourhoods along a block.
    """
    k = [max(images.shape[axis - 2] // grid[axis] // _NEIGHBOURHOOD, 1) for axis in (0, 1)]
    cells = block_means(images, (grid[0] * k[0], grid[1] * k[1]))
    return [
        (cells[..., k[0] - 1 : -1 : k[0], :], cells[..., k[0] :: k[0], :]),
        (cells[..., k[1] - 1 : -1 : k[1]], cells[..., k[1] :: k[1]]),
    ]


def _border_cost(before: Tensor, after: Tensor, axis: int, grid: tuple[int, int]) -> Array:
    """Return the mean absolute difference across each border, (N, h - 1, w) or (N, h, w - 1) float64, on the CPU."""
    along = 3 - axis
    difference = (before - after).abs().mean(1)
    return difference.unflatten(along, (grid[along - 1], -1)).mean(along + 1).cpu().double().numpy()
