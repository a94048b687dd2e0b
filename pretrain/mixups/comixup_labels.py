"""Co-Mixup's objective, and the sweeps over the outputs of every partition that lower it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.mixups.grid_labels import Floats, label_grid


@dataclass(frozen=True)
class Problem:
    """Co-Mixup's problem on P partitions side by side, of up to m images each, the larger ones first.

    With z_jk the weights of the images (zeros, ones and halves, summing to one) at block k of output j, o_j the sum of
    z_jk over the n blocks, and p_j the sum of the o_j' of the other outputs, the objective of a partition is

        f(z) = sum_jk c_k . z_jk                                                 saliency and prior
             + beta / n * sum_j sum_{neighbours k, k'} |z_jk - z_jk'|^2 / 2      smoothness
             + gamma / n * sum_j o_j . h(A p_j),  h(x) = x if x > tau * n else 0   diversity

    scaled and thresholded ("hard") as in the authors' repository, snu-mllab/Co-Mixup.
    Below tau an image is free: without it, any output that mixes would cost more than the saliency it gains.

    Attributes:
        costs: (P, H, W, m), c_k: minus the part of an image's saliency that is in block k, less eta / n times the log
            of the image's share in the prior; zero beyond a partition's size.
        compatibility: (P, m, m), A = (1 - omega) * I + omega * C, C the l1 distances between the most salient regions.
        sizes: Of the partitions, descending.
        beta, gamma, tau: As above.
    """

    costs: Floats
    compatibility: Floats
    sizes: Sequence[int]
    beta: float
    gamma: float
    tau: float

    @property
    def blocks(self) -> int:
        """n, the number of blocks."""
        return self.costs.shape[1] * self.costs.shape[2]

    def penalties(self, others: Floats, factor: int = 1) -> Floats:
        """Return factor * gamma / n * h(A p), (P, m), where the other outputs show p = `others` (P, m) blocks."""
        exposure = (others[:, None] @ self.compatibility[: len(others)])[:, 0]
        return factor * self.gamma / self.blocks * np.where(exposure > self.tau * self.blocks, exposure, 0)


def objective(problem: Problem, masks: Floats) -> Floats:
    """Return f of every partition, (P,), at masks (P, m, H, W, m): of each output, at each block, the images' weights.

    It is `obj_fn_thres` of the authors' repository with A in it.
    """
    counts = masks.sum((2, 3))
    others = counts.sum(1, keepdims=True) - counts
    diversity = sum((counts[:, j] * problem.penalties(others[:, j])).sum(1) for j in range(masks.shape[1]))
    rough = sum((np.diff(masks, axis=axis) ** 2).sum((1, 2, 3, 4)) for axis in (2, 3))
    linear = (problem.costs[:, None] * masks).sum((1, 2, 3, 4))
    return linear + problem.beta / problem.blocks * rough / 2 + diversity


def minimise(problem: Problem, masks: Floats, sweeps: int) -> Floats:
    """Return the labelling of least f, partition by partition, of those after 1, 2, ... `sweeps` sweeps from `masks`.

    The modular approximation does not see that an output may push others over tau, so that a sweep can raise f. More
    sweeps never return a higher f.
    """
    best, least = masks, np.full(len(masks), np.inf)
    for number in range(sweeps):
        previous, masks = masks, sweep(problem, masks, halves=number > 0)
        value = objective(problem, masks)
        best = np.where((value < least)[:, None, None, None, None], masks, best)
        least = np.minimum(value, least)
        if number > 0 and np.array_equal(previous, masks):
            break
    return best


def sweep(problem: Problem, masks: Floats, halves: bool) -> Floats:
    """Choose each output anew, one after the other, with the others fixed; all partitions at once.

    The diversity term is replaced by 2 * gamma / n * h(A p_j) . o_j, its modular approximation: exact where nothing
    crosses tau. What remains is a labelling of the grid. Its labels are the images and, with `halves`, half and half
    of any two of the three images of which the output showed most.

    Args:
        problem: P partitions of up to m images.
        masks: (P, m, H, W, m), zeros beyond a partition's size.
        halves: Whether blocks may be shared.
    """
    masks = masks.copy()
    images = masks.shape[1]
    beyond = np.where(np.arange(images) < np.array(problem.sizes)[:, None], 0, np.inf).astype(np.float32)
    usage = masks.sum((1, 2, 3))
    for j in range(images):
        active = sum(size > j for size in problem.sizes)
        counts = masks[:active, j].sum((1, 2))
        others = usage[:active] - counts
        labels, closed = _labels(counts, beyond[:active], halves)
        costs = problem.costs[:active] + problem.penalties(others, 2)[:, None, None]
        unary = costs @ labels.swapaxes(1, 2)[:, None] + closed[:, None, None]
        chosen = label_grid(unary, problem.beta / problem.blocks * _distances(labels))
        masks[:active, j] = labels[np.arange(active)[:, None, None], chosen]
        usage[:active] = others + masks[:active, j].sum((1, 2))
    return masks


def _labels(counts: Floats, beyond: Floats, halves: bool) -> tuple[Floats, Floats]:
    """Return what a block may show, the weights (P, L, m), and infinity where it may not, zero elsewhere, (P, L).

    Args:
        counts: (P, m), how many blocks of each image the output shows.
        beyond: (P, m), infinite for images beyond the partition.
        halves: Whether blocks may be shared.
    """
    partitions, images = counts.shape
    pairs = [(a, b) for a, b in ((0, 1), (0, 2), (1, 2)) if halves and b < images]
    labels = np.zeros((partitions, images + len(pairs), images), np.float32)
    labels[:, range(images), range(images)] = 1
    if not pairs:
        return labels, beyond
    order = np.argsort(-counts, axis=1, kind="stable")
    shared = order[:, pairs]
    every = np.arange(partitions)[:, None]
    for side in (0, 1):
        labels[every, range(images, labels.shape[1]), shared[..., side]] = 0.5
    absent = np.where(np.take_along_axis(counts, shared[..., 1], 1) > 0, 0, np.inf).astype(np.float32)
    return labels, np.concatenate([beyond, absent], axis=1)


def _distances(labels: Floats) -> Floats:
    """Return half the squared distance between any two labels, (P, L, L)."""
    products = labels @ labels.swapaxes(1, 2)
    squares = np.diagonal(products, axis1=1, axis2=2)
    return (squares[:, :, None] + squares[:, None]) / 2 - products
