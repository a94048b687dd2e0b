"""Blocks of images and their optimal transport: which block to show where, as PuzzleMix asks (Kim et al., 2020)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

Array = NDArray[Any]


def block_of_pixel(length: int, blocks: int) -> Array:
    """Return (length,) int64, the block of each pixel of a side cut into `blocks` that differ by a pixel at most."""
    return np.arange(length) * blocks // length


def block_means(images: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return (..., h, w), the mean of each block of (..., H, W); blocks as in `block_of_pixel`."""
    h, w = grid
    height, width = images.shape[-2:]
    if height % h == 0 and width % w == 0:
        return F.avg_pool2d(images, (height // h, width // w))
    for dim, blocks in ((-2, h), (-1, w)):
        sizes = np.bincount(block_of_pixel(images.shape[dim], blocks)).tolist()
        images = torch.stack([part.mean(dim) for part in images.split(sizes, dim)], dim)
    return images


def upsample(blocks: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (..., H, W), the value of its block, of (..., h, w), at each pixel."""
    rows, columns = (torch.from_numpy(block_of_pixel(size[k], blocks.shape[k - 2])).to(blocks.device) for k in (0, 1))
    return blocks[..., rows, :][..., columns]


def transport_plan(saliency: Array, visible: Array, eps: float, size: tuple[int, int]) -> Array:
    """Return the permutation of each image's blocks that shows most saliency for the least way.

    It minimises the sum over places j of eps C[i, j] - saliency[i] visible[j], i being the block shown at j and C the
    squared distance in blocks over that of the grid's longer side. Where the image's sides are no multiples of the
    grid's, blocks differ by a pixel, and a block only goes to places of its own size.

    Args:
        saliency: (N, h, w) float, of each block.
        visible: (N, h, w) bool, the places that are seen.
        eps: The price of the way.
        size: (H, W) of the image.

    Returns:
        (N, h * w) int64, the block shown at each place.
    """
    n, h, w = saliency.shape
    costs = eps * _distances((h, w), size)
    plan = np.tile(np.arange(h * w), (n, 1))
    sources, places = saliency.reshape(n, -1, 1), visible.reshape(n, 1, -1)
    for k in np.flatnonzero(~_stays(saliency, visible, eps)):
        blocks, shown_at = linear_sum_assignment(costs - sources[k] * places[k])
        plan[k, shown_at] = blocks
    return plan


def move_blocks(images: Tensor, plan: Array, grid: tuple[int, int]) -> Tensor:
    """Return images (N, C, H, W) with block plan[n, j] of each at place j; those that move nothing are not copied.

    Args:
        images: (N, C, H, W).
        plan: (N, h * w) int64, of `transport_plan`.
        grid: (h, w).
    """
    moved = np.flatnonzero((plan != np.arange(plan.shape[1])).any(1))
    if len(moved) == 0:
        return images
    height, width = images.shape[-2:]
    rows, columns = block_of_pixel(height, grid[0]), block_of_pixel(width, grid[1])
    place = rows[:, None] * grid[1] + columns
    first = np.searchsorted(rows, np.arange(grid[0]))[:, None] * width + np.searchsorted(columns, np.arange(grid[1]))
    # How far, in pixels of the flattened image, the block shown at a place lies from it.
    shift = first.ravel()[plan[moved]] - first.ravel()
    pixels = torch.from_numpy(np.arange(height * width) + shift[:, place.ravel()]).to(images.device)
    chosen = torch.from_numpy(moved).to(images.device)
    flat = images[chosen].flatten(2)
    return images.index_copy(0, chosen, flat.gather(2, pixels[:, None].expand_as(flat)).view(-1, *images.shape[1:]))


@lru_cache(maxsize=16)
def _distances(grid: tuple[int, int], size: tuple[int, int]) -> Array:
    """Return (h * w, h * w), the price of the way between blocks; infinite between blocks of unequal size."""
    side = max(*grid, 2) - 1
    place = np.indices(grid).reshape(2, -1)
    squares = ((place[:, :, None] - place[:, None]) ** 2).sum(0) / side**2
    for k in (0, 1):
        length = np.bincount(block_of_pixel(size[k], grid[k]))[place[k]]
        squares[length[:, None] != length] = np.inf
    return squares


def _stays(saliency: Array, visible: Array, eps: float) -> Array:
    """Return (N,) bool, true only where nothing can be gained by moving blocks; quick, and right for nearly all images.

    It looks for prices of places, zero where hidden, at which no single move pays: then, by duality, no permutation
    does. A move between visible places must not pay, so prices may fall by eps C from place to place, which unit steps
    bound from below; a visible block must not gain by leaving, which bounds its price by its saliency and the way out.
    What remains is that no hidden block gains by coming in.
    """
    n, h, w = saliency.shape
    unit = eps / (max(h, w, 2) - 1) ** 2
    steps = [np.abs(np.subtract.outer(np.arange(k), np.arange(k))) for k in (h, w)]
    ways, squares = [unit * step for step in steps], [unit * step**2.0 for step in steps]
    way_out = _least(np.where(visible, np.inf, 0), *squares)
    price = _least(np.where(visible, saliency + way_out, np.inf), *ways)
    to_pay = _least(np.where(visible, price, np.inf), *squares)
    return np.all((visible | (saliency <= to_pay)).reshape(n, -1), axis=1)


def _least(values: Array, rows: Array, columns: Array) -> Array:
    """Return (N, h, w), at each place the least of value + way over all places; ways add up over the two axes."""
    values = (values[:, :, None] + rows[:, :, None]).min(1)
    return (values[..., None] + columns).min(2)
