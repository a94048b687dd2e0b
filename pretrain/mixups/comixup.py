"""Co-Mixup (Kim, Choo, Jeong and Song, 2021): the salient blocks of a whole batch, dealt out to diverse outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pretrain.mixups.comixup_labels import Problem, minimise
from pretrain.mixups.grid_labels import Floats, Ints
from pretrain.mixups.policy import Draw, MixContext, MixPolicy, MixResult, require_positive, sample_dirichlet

BLOCKS = 4  # along each side, in every published experiment; the labelling of a grid is exact for few columns only
FINE = 8 * BLOCKS  # cells along each side of the map in which an image's most salient region is sought


@dataclass(frozen=True)
class CoMixupDraw(Draw):
    """Where the sweeps start, and the prior; the method has neither lambda nor partners, which are as given or dummies.

    Attributes:
        log_prior: (N,) float, log of each image's share in its partition, drawn from a Dirichlet distribution.
        start: (N, 4, 4) float in [0, 1), which image of the partition each block of each output shows first.
    """

    log_prior: Tensor
    start: Tensor


@dataclass(frozen=True)
class CoMixup(MixPolicy):
    """Outputs that show as much saliency as they can, in smooth masks, each of other images; labels follow the pixels.

    The batch falls into the fewest partitions of at most `partition` images, of sizes that differ by one at most: a
    remainder of one image would have nothing to mix with. Each is mixed by itself, as many outputs as images, on a grid
    of 4 by 4 blocks; `comixup_labels.Problem` states the objective. A block shows one image, or half and half of two.
    The settings are those of the authors' repository, snu-mllab/Co-Mixup, for CIFAR-100 and Tiny-ImageNet.

    Outputs are chosen in turn, each with a view to the others, on the CPU: saliency by blocks is copied there, once.

    Attributes:
        alpha: Of the symmetric Dirichlet distribution of the prior.
        beta: Weight of smoothness.
        gamma: Weight of diversity.
        tau: The share of an output that the other outputs may show of an image together before it costs anything.
        eta: Weight of the prior.
        omega: Weight of compatibility, the distance between the most salient regions of two images, in diversity.
        partition: Images mixed with each other, at most.
        iterations: Sweeps over the outputs.
    """

    name: ClassVar[str] = "comixup"
    needs: ClassVar[tuple[str, ...]] = ("saliency",)
    alpha: float = 2.0
    beta: float = 0.32
    gamma: float = 1.0
    tau: float = 0.83
    eta: float = 0.05
    omega: float = 0.001
    partition: int = 20
    iterations: int = 4

    def __post_init__(self) -> None:
        """Check the settings; a ValueError names the wrong one."""
        require_positive(self.name, alpha=self.alpha, partition=self.partition, iterations=self.iterations)
        for key in ("beta", "gamma", "tau", "eta"):
            if not getattr(self, key) >= 0:
                raise ValueError(f"{self.name}: {key} has to be zero or more, not {getattr(self, key)}")
        if not 0 <= self.omega <= 1:
            raise ValueError(f"{self.name}: omega has to be in [0, 1], not {self.omega}")

    def sample(
        self,
        n: int,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
        lam: float | None = None,
        index: Tensor | None = None,
    ) -> CoMixupDraw:
        """Draw the prior and where the sweeps start; see `MixPolicy.sample`."""
        shares = [sample_dirichlet(self.alpha, (size,), generator) for size in self._sizes(n)]
        log_prior = torch.log(torch.cat(shares) + 1e-8)
        start = torch.rand((n, BLOCKS, BLOCKS), generator=generator)
        return CoMixupDraw(1.0 if lam is None else lam, torch.arange(n) if index is None else index, log_prior, start)

    def apply(self, images: Tensor, targets: Tensor, draw: CoMixupDraw, context: MixContext | None = None) -> MixResult:
        """See `MixPolicy`."""
        saliency = self.ask(context, "saliency")(images, targets)
        with torch.autocast(images.device.type, enabled=False):
            masks = minimise(*self.problem(saliency, draw), self.iterations)
            weights = _block_diagonal(masks, self._sizes(len(images)))
            heights, widths = (np.diff(_edges(side)) / side for side in images.shape[-2:])
            shares = torch.from_numpy(weights.astype(np.float64) @ widths @ heights).to(targets.device, torch.float32)
            mask = torch.from_numpy(weights).to(images.device, non_blocking=True)
            return MixResult(_render(images, weights), None, None, mask, shares @ targets.float(), shares)

    def problem(self, saliency: Tensor, draw: CoMixupDraw) -> tuple[Problem, Floats]:
        """Return what is to be minimised, and the masks to start from: `comixup_labels`.

        Args:
            saliency: (N, H, W), on any device.
            draw: As `sample` returned it.
        """
        blocks, regions = _regions(saliency.detach().float())
        sizes = self._sizes(len(blocks))
        members, inside = _members(sizes)
        costs = -blocks - self.eta / BLOCKS**2 * draw.log_prior.numpy()[:, None, None]
        costs = np.where(inside[:, None, None], np.moveaxis(costs[members], 1, 3), 0).astype(np.float32)
        # C of `Problem`: distances between most salient regions, scaled so that a row sums to one on average.
        both = inside[:, :, None] & inside[:, None]
        apart = np.abs(regions[members][:, :, None] - regions[members][:, None]).sum(3) * both
        mean = np.maximum(apart.sum((1, 2)) / sizes, np.finfo(np.float32).tiny)[:, None, None]
        compatibility = (1 - self.omega) * np.eye(members.shape[1]) + self.omega * apart / mean
        problem = Problem(costs, compatibility.astype(np.float32), sizes, self.beta, self.gamma, self.tau)
        first = (draw.start.numpy()[members] * np.array(sizes)[:, None, None, None]).astype(np.int64)
        start = np.eye(members.shape[1], dtype=np.float32)[first] * inside[:, :, None, None, None]
        return problem, start

    def _sizes(self, n: int) -> list[int]:
        """Return the sizes of the partitions of a batch, descending."""
        return [len(part) for part in torch.arange(n).tensor_split(-(-n // self.partition))]


def nearest_blocks(length: int, blocks: int = BLOCKS) -> Tensor:
    """Return the block of each pixel along a side, (length,) int64: as torch's nearest upsampling rounds."""
    return F.interpolate(torch.arange(blocks, dtype=torch.float32)[None, None], size=length)[0, 0].long()


def _edges(length: int) -> NDArray[np.int64]:
    """Return where each block begins along a side, and its end: (5,)."""
    return np.cumsum([0, *nearest_blocks(length).bincount(minlength=BLOCKS)])


def _members(sizes: list[int]) -> tuple[Ints, NDArray[np.bool_]]:
    """Return (P, m) places in the batch of the images of each partition, and which of them are in it."""
    offsets = np.arange(max(sizes))
    inside = offsets < np.array(sizes)[:, None]
    return np.where(inside, np.cumsum([0, *sizes[:-1]])[:, None] + offsets, 0), inside


def _block_sums(maps: Tensor, height: int, width: int) -> Tensor:
    """Return the sums (N, height, width) over the blocks of maps (N, H, W)."""
    inside = []
    for length, blocks in zip(maps.shape[1:], (height, width)):
        block = nearest_blocks(length, blocks).to(maps.device, non_blocking=True)
        inside.append((block == torch.arange(blocks, device=maps.device)[:, None]).to(maps.dtype))
    return inside[0] @ maps @ inside[1].mT


def _regions(saliency: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each image's saliency by blocks, (N, 4, 4), summing to one, and where its most salient region is, (N, 2).

    A region has the size of a block and is anywhere on a map of at most 32 by 32 cells. One copy to the host.
    """
    height, width = (min(side, FINE) for side in saliency.shape[1:])
    fine = _block_sums(saliency, height, width)
    window = (max(height // BLOCKS, 1), max(width // BLOCKS, 1))
    sought = F.avg_pool2d(fine[:, None], window, stride=1)[:, 0]
    found = torch.cat([_block_sums(saliency, BLOCKS, BLOCKS).flatten(1), sought.flatten(1).argmax(1)[:, None]], dim=1)
    blocks, place = np.split(found.cpu().double().numpy(), [BLOCKS**2], axis=1)
    blocks = blocks / np.maximum(blocks.sum(1, keepdims=True), np.finfo(np.float32).tiny)
    return blocks.reshape(-1, BLOCKS, BLOCKS), np.concatenate(np.divmod(place, sought.shape[2]), axis=1)


def _block_diagonal(masks: Floats, sizes: list[int]) -> Floats:
    """Return (N, N, 4, 4), the weight of every image of the batch in every output, of masks (P, m, 4, 4, m)."""
    weights = np.zeros((sum(sizes), sum(sizes), BLOCKS, BLOCKS), np.float32)
    for mask, size, end in zip(masks, sizes, np.cumsum(sizes)):
        weights[end - size : end, end - size : end] = np.moveaxis(mask[:size, ..., :size], 3, 1)
    return weights


def _render(images: Tensor, weights: Floats) -> Tensor:
    """Return the mixed images: a copy of its image to each block, or half of each of its two."""
    first = weights.argmax(1)
    second = weights.shape[1] - 1 - weights[:, ::-1].argmax(1)
    sources = torch.from_numpy(np.stack([first, second])).to(images.device, non_blocking=True)
    rows, columns = _edges(images.shape[-2]), _edges(images.shape[-1])
    mixed = torch.empty_like(images)
    for y, x in np.ndindex(BLOCKS, BLOCKS):
        area = (..., slice(rows[y], rows[y + 1]), slice(columns[x], columns[x + 1]))
        block = images[area].index_select(0, sources[0, :, y, x])
        if (shared := np.flatnonzero(first[:, y, x] != second[:, y, x])).size:
            outputs = torch.from_numpy(shared).to(images.device, non_blocking=True)
            block[outputs] = (block[outputs] + images[area].index_select(0, sources[1, outputs, y, x])) / 2
        mixed[area] = block
    return mixed
