"""Exact minimum cuts on batches of small grids: labels that trade a cost per cell against differences of neighbours.

`convex_cut` follows the steepest-descent view of convex labelling (Kolmogorov and Shioura, 2009; Murota, 2003): for L
labels it needs L - 1 binary cuts with one node a cell, where Ishikawa's construction (2003) needs one cut with L - 1
nodes a cell and several arcs between each two of them. `binary_cut` is the cut of Greig, Porteous and Seheult (1989).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

Array = NDArray[Any]

# Capacities are int32. A cell has four neighbours, so its own capacity may reach 4 times the largest weight.
_LARGEST_WEIGHT = 2**28


def convex_cut(unary: Array, down: Array, right: Array) -> Array:
    """Return the labels that minimise sum_p unary[l_p] + sum_pq weight_pq (l_p - l_q)^2 / (L - 1)^2, of each grid.

    p and q are 4-neighbours. Where several labellings are best, some of them is returned.

    Args:
        unary: (N, L, h, w) float64, the cost of each label in each cell; L >= 2. Convex along the labels, as it
            always is for two.
        down: (N, h - 1, w) float, not negative, the weight between a cell and the one below: the cost of labels 0 and
            L - 1 side by side.
        right: (N, h, w - 1), the same between a cell and the one to its right.

    Returns:
        (N, h, w) int64 in 0 .. L - 1. The minimum is exact for costs rounded as in `binary_cut`.

    Raises:
        ValueError: Shapes do not fit, a cost is not finite, a weight is negative, or the unary costs are not convex.
    """
    n, labels, h, w = unary.shape
    _check(unary, down, right, (n, h, w))
    bend = np.diff(unary, n=2, axis=1)
    if (bend < -1e-9 * np.abs(unary).max(initial=0)).any():
        raise ValueError("graph cut: the unary costs are not convex along the labels")
    down, right = down / (labels - 1) ** 2, right / (labels - 1) ** 2
    best = np.full((n, h, w), labels - 1)
    # The best labelling of labels >= k lies at most one below that of labels >= k + 1 in every cell, and never above.
    for _ in range(labels - 1):
        lower, here = (np.take_along_axis(unary, labelling[:, None], axis=1)[:, 0] for labelling in (best - 1, best))
        # (d - (x_p - x_q))^2 with d = l_p - l_q is d^2 - 2 d (x_p - x_q) + |x_p - x_q|: a field and a plain cut.
        best = best - binary_cut(lower - here - 2 * _differences(best, down, right), down, right)
    return best


def binary_cut(field: Array, down: Array, right: Array) -> Array:
    """Return the x in {0, 1} that minimise sum_p field_p x_p + sum_pq weight_pq |x_p - x_q|, of each grid.

    One maximum flow for the whole batch, whose grids do not touch. Its capacities are integers: field and weights of
    each grid are rounded to 2^-28 of the grid's largest weight.

    Args:
        field: (N, h, w) float.
        down, right: (N, h - 1, w) and (N, h, w - 1) float, not negative; see `convex_cut`.

    Returns:
        (N, h, w) bool. Where several x are best, the one with the fewest ones.

    Raises:
        ValueError: Shapes do not fit, a cost is not finite, or a weight is negative.
    """
    n, h, w = field.shape
    _check(field, down, right, (n, h, w))
    # No cut is worth more than all fields together, so greater weights may be cut back to that: the scale stays fine.
    total = np.abs(field).sum((1, 2), keepdims=True)
    down, right = np.minimum(down, total), np.minimum(right, total)
    largest = np.maximum(down.max((1, 2), keepdims=True, initial=0), right.max((1, 2), keepdims=True, initial=0))
    scale = _LARGEST_WEIGHT / np.maximum(largest, 1e-200)
    down, right = np.rint(down * scale), np.rint(right * scale)
    # A field beyond the weights around its cell decides alone; by how much does not matter.
    enough = _incident(down, right) + 1
    with np.errstate(over="ignore"):
        field = np.clip(np.rint(field * scale), -enough, enough)
    indptr, indices, order = _grid_graph(n, h, w)
    from_source, to_sink, zero = np.maximum(-field, 0).ravel(), np.maximum(field, 0).ravel(), np.zeros(field.size)
    capacities = [down.ravel()] * 2 + [right.ravel()] * 2 + [from_source, zero, to_sink, zero]
    data = np.concatenate(capacities)[order].astype(np.int32)
    graph = csr_array((data, indices, indptr), shape=(field.size + 2,) * 2)
    residual = graph - maximum_flow(graph, field.size, field.size + 1).flow
    residual.eliminate_zeros()
    reached = np.zeros(field.size + 2, dtype=bool)
    reached[breadth_first_order(residual, field.size, return_predecessors=False)] = True
    return reached[:-2].reshape(n, h, w)


@lru_cache(maxsize=16)
def _grid_graph(n: int, h: int, w: int) -> tuple[Array, Array, Array]:
    """Return indptr and indices of the graph of n grids, source and sink, and which capacity each entry takes.

    Every arc has its opposite, be it of no capacity, so that scipy need not add them.
    """
    cells = np.arange(n * h * w).reshape(n, h, w)
    above, below, left, right = cells[:, :-1], cells[:, 1:], cells[:, :, :-1], cells[:, :, 1:]
    source, sink = np.full_like(cells, cells.size), np.full_like(cells, cells.size + 1)
    pairs = [(above, below), (below, above), (left, right), (right, left)]
    pairs += [(source, cells), (cells, source), (cells, sink), (sink, cells)]
    tails, heads = (np.concatenate([pair[end].ravel() for pair in pairs]) for end in (0, 1))
    order = np.lexsort((heads, tails))
    indptr = np.cumsum(np.bincount(tails + 1, minlength=cells.size + 3))
    return indptr.astype(np.int32), heads[order].astype(np.int32), order


def _incident(down: Array, right: Array) -> Array:
    """Return (N, h, w), the sum of the weights around each cell."""
    around = np.zeros((len(down), right.shape[1], down.shape[2]))
    around[:, 1:] += down
    around[:, :-1] += down
    around[:, :, 1:] += right
    around[:, :, :-1] += right
    return around


def _differences(labels: Array, down: Array, right: Array) -> Array:
    """Return (N, h, w), the sum over a cell's neighbours q of weight_pq (l_p - l_q)."""
    out = np.zeros(labels.shape)
    step = down * np.diff(labels, axis=1)
    out[:, 1:] += step
    out[:, :-1] -= step
    step = right * np.diff(labels, axis=2)
    out[:, :, 1:] += step
    out[:, :, :-1] -= step
    return out


def _check(costs: Array, down: Array, right: Array, shape: tuple[int, int, int]) -> None:
    n, h, w = shape
    if down.shape != (n, h - 1, w) or right.shape != (n, h, w - 1):
        raise ValueError(f"graph cut: weights {down.shape} and {right.shape} do not fit {n} grids of {h} x {w}")
    if not all(np.isfinite(part).all() for part in (costs, down, right)):
        raise ValueError("graph cut: the costs have to be finite")
    if (down < 0).any() or (right < 0).any():
        raise ValueError("graph cut: the weights must not be negative")
