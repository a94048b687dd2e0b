"""Labels of a small grid of blocks: unary costs, and a cost between neighbours, minimised row by row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]  # float32 in use, float64 where a test wants it exact
Ints = NDArray[np.int64]


def label_grid(unary: Floats, pairwise: Floats, candidates: int = 5) -> Ints:
    """Return the labelling of least sum of unary and pairwise costs, of those with few candidates in every block.

    Candidates of a block are its labels of least unary cost, and the best of the labels that take the whole grid. Among
    them the result is optimal: a dynamic programme carries the cost of every labelling of a row, candidates^W of them.
    With as many candidates as labels it is the optimum; it is never worse than one label everywhere.

    Args:
        unary: (P, H, W, L), of P grids; infinite where a label is not to be had.
        pairwise: (P, L, L), symmetric, of every two neighbours (4-neighbourhood).
        candidates: A block's.

    Returns:
        (P, H, W), labels in 0 .. L - 1.
    """
    problems, height, width, labels = unary.shape
    kept = _candidates(unary, min(candidates, labels))
    count = kept.shape[3]
    first = kept + np.arange(0, pairwise.size, labels**2)[:, None, None, None] // labels
    beside = pairwise.take(first[:, :, :-1, :, None] * labels + kept[:, :, 1:, None])
    below = pairwise.take(first[:, :-1, :, :, None] * labels + kept[:, 1:, :, None])
    cells = np.arange(0, unary.size, labels).reshape(problems, height, width, 1)
    rows = _rows(unary.take(cells + kept), beside)
    upto = [rows[:, 0]]
    for y in range(1, height):
        upto.append(_least_above(upto[-1], below[:, y - 1]) + rows[:, y])

    digits = np.stack(np.unravel_index(np.arange(count**width), (count,) * width), axis=1)
    chosen = np.empty((problems, height, width), np.int64)
    chosen[:, -1] = digits[upto[-1].argmin(1)]
    each = np.arange(problems)[:, None]
    for y in reversed(range(height - 1)):
        step = below[each, y, np.arange(width), :, chosen[:, y + 1]]
        chosen[:, y] = digits[(upto[y] + _outer_sum(step)).argmin(1)]
    return kept.take(np.arange(0, kept.size, count).reshape(chosen.shape) + chosen)


def _candidates(unary: Floats, count: int) -> Ints:
    """Return (P, H, W, count) labels."""
    kept = np.argpartition(unary, count - 1, axis=3)[..., :count]
    if count < unary.shape[3]:
        # argpartition leaves the largest of the kept ones last: that is the one to give up.
        kept[..., -1] = unary.sum((1, 2)).argmin(1)[:, None, None]
    return kept


def _rows(unary: Floats, beside: Floats) -> Floats:
    """Return the cost of every labelling of every row by itself, (P, H, K^W), the left label varying slowest.

    Args:
        unary: (P, H, W, K).
        beside: (P, H, W - 1, K, K), the cost between a block's label and that of the block to its right.
    """
    problems, height, width, labels = unary.shape
    rows = unary[:, :, -1, :, None]
    for x in reversed(range(width - 1)):
        step = beside[:, :, x] + unary[:, :, x, :, None]
        rows = (step[..., None] + rows[:, :, None]).reshape(problems, height, labels, -1)
    return rows.reshape(problems, height, -1)


def _outer_sum(terms: Floats) -> Floats:
    """Return the sums (P, K^W) of one of K numbers of each of W terms (P, W, K)."""
    total = terms[:, -1]
    for x in reversed(range(terms.shape[1] - 1)):
        total = (terms[:, x, :, None] + total[:, None]).reshape(len(terms), -1)
    return total


def _least_above(above: Floats, below: Floats) -> Floats:
    """Return, for every labelling of a row, the least cost of all above it: the labels exchanged block by block.

    Args:
        above: (P, K^W), the least cost of all above, by the labelling of the last row.
        below: (P, W, K, K), the cost between a block's label and the label below it.
    """
    problems, width, labels = below.shape[:3]
    for x in range(width):
        paths = above.reshape(problems, labels, 1, -1) + below[:, x, :, :, None]
        above = paths.min(1).swapaxes(1, 2)
    return above.reshape(problems, -1)
