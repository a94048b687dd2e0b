"""SuperMix (Dabouei et al., 2021): masks that a frozen teacher steers until it sees every source in the mixed image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from pretrain.mixups.policy import Draw, MixContext, MixPolicy, MixResult, require_positive, sample_dirichlet

STEP_RANGE = (1e-4, 2000.0)  # of the factor on the smoothed gradient, as in the authors' code


@dataclass(frozen=True)
class SuperDraw(Draw):
    """What is drawn; `lam` is the mean share of image i.

    Attributes:
        shares: (N, sources) float32 on the CPU, rows summing to one: how much of each source the teacher is to see.
    """

    shares: Tensor


@dataclass(frozen=True)
class Optimised:
    """What came of the optimisation, failures included.

    Attributes:
        masks: (N, sources, H, W) float32, summing to one over the sources at each pixel.
        logits: (N, K) float32, the teacher's on the mixed images.
        targets: (N, K) float32, what the teacher was to see.
        success: (N,) bool, whether its first classes are those it predicts for the sources.
        steps: (N,) int64, steps that each mix took.
    """

    masks: Tensor
    logits: Tensor
    targets: Tensor
    success: Tensor
    steps: Tensor


@dataclass(frozen=True)
class SuperMix(MixPolicy):
    """Masks on a coarse grid, optimised until the teacher's first classes are those of the sources.

    The sources of image i are itself, its partner, the partner's partner and so on; partners go round one cycle through
    the batch. A mix that does not succeed within `max_steps` is left out: image i stays as it is, with its own label.

    Differences from alldbi/SuperMix: each mix gets all its steps (there a batch ends when few are left); sources of one
    class ask for that class alone (there a tie decides which other one is asked for, too); the kernel has an odd width.

    Attributes:
        alpha: Of the Dirichlet distribution of the shares; 3.
        sources: Images in each mix, K in the paper; 2.
        grid: Side of the masks before they are upsampled: 8 for images of 32 pixels, 16 for 224.
        sigma: Standard deviation of the Gaussian that smooths every step, cells: 1 with grid 8, 2 with grid 16.
        sparsity: Weight of mean |m (m - 1)|; 25.
        max_steps: At most; 50.
        relabel: Whether a mix gets the teacher's prediction as its label, as an offline set does; else the classes of
            the sources by their masks' means.
    """

    name: ClassVar[str] = "supermix"
    needs: ClassVar[tuple[str, ...]] = ("teacher",)
    alpha: float = 3.0
    sources: int = 2
    grid: int = 8
    sigma: float = 1.0
    sparsity: float = 25.0
    max_steps: int = 50
    relabel: bool = False

    def __post_init__(self) -> None:
        """Check the settings; a ValueError names the wrong one."""
        require_positive(self.name, alpha=self.alpha, grid=self.grid, sigma=self.sigma, max_steps=self.max_steps)
        if self.sources < 2:
            raise ValueError(f"{self.name}: sources has to be at least 2, not {self.sources}")
        if not self.sparsity >= 0:
            raise ValueError(f"{self.name}: sparsity must not be negative, it is {self.sparsity}")

    def sample(
        self,
        n: int,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
        lam: float | None = None,
        index: Tensor | None = None,
    ) -> SuperDraw:
        """Draw shares and partners; a `lam` that is given is the share of image i. See `MixPolicy.sample`."""
        shares = sample_dirichlet(self.alpha, (n, self.sources), generator)
        if lam is not None:
            others = shares[:, 1:] / shares[:, 1:].sum(dim=1, keepdim=True)
            shares = torch.cat([torch.full((n, 1), lam, dtype=torch.float64), (1 - lam) * others], dim=1)
        shares = shares.float()
        if index is None:
            cycle = torch.randperm(n, generator=generator)
            index = torch.empty_like(cycle).scatter_(0, cycle, cycle.roll(-1))
        return SuperDraw(float(shares[:, 0].mean()) if lam is None else lam, index, shares)

    def apply(self, images: Tensor, targets: Tensor, draw: SuperDraw, context: MixContext | None = None) -> MixResult:
        """See `MixPolicy`; the host waits for the device once a step, to go on with the mixes that are not done."""
        teacher = self.ask(context, "teacher")
        chosen = self.choose(draw.index).to(images.device)
        found = self.optimise(images, chosen, draw.shares.to(images.device), teacher)
        clean = torch.zeros_like(found.masks)
        clean[:, 0] = 1
        masks = torch.where(found.success[:, None, None, None], found.masks, clean)
        shares = masks.mean(dim=(2, 3))
        soft_targets = (shares[:, :, None] * targets[chosen]).sum(dim=1)
        if self.relabel:
            soft_targets = torch.where(found.success[:, None], found.logits.softmax(dim=1), soft_targets)
        mixed = blend(images[chosen], masks).to(images.dtype)
        if self.sources == 2:
            return MixResult(mixed, shares[:, 0], chosen[:, 1], masks[:, :1], soft_targets)
        n = len(images)
        blocks = F.adaptive_avg_pool2d(masks, self.grid)
        by_image = blocks.new_zeros((n, n, self.grid, self.grid))
        by_image.scatter_add_(1, chosen[:, :, None, None].expand_as(blocks), blocks)
        return MixResult(
            mixed, None, None, by_image, soft_targets, shares.new_zeros((n, n)).scatter_add_(1, chosen, shares)
        )

    def choose(self, index: Tensor) -> Tensor:
        """Return the sources of each mix, (N, sources) int64: i, index[i], index[index[i]] and so on."""
        chosen = [torch.arange(len(index), device=index.device)]
        for _ in range(self.sources - 1):
            chosen.append(index[chosen[-1]])
        return torch.stack(chosen, dim=1)

    def optimise(
        self, images: Tensor, chosen: Tensor, shares: Tensor, teacher: Callable[[Tensor], Tensor]
    ) -> Optimised:
        """Find the masks. Only mixes that have not succeeded yet go on; gradients reach the masks alone.

        Each step goes along the smoothed gradient, as far as brings the objective to zero if it were linear: Newton's
        step for a root, as in DeepFool.

        Args:
            images: (M, 3, H, W) float, normalised.
            chosen: (N, sources) int64, rows of `images`.
            shares: (N, sources) float32, the target's weight on the class of each source.
            teacher: See `MixContext.teacher`.
        """
        with torch.no_grad():
            classes = teacher(images).argmax(dim=1)[chosen]
        parts, size = images[chosen], (images.shape[-2], images.shape[-1])
        grids = shares.new_zeros((*chosen.shape, self.grid, self.grid))
        smooth = _smoothing(self.grid, self.sigma).to(images.device)
        steps = torch.zeros(len(chosen), dtype=torch.int64, device=images.device)
        success = torch.zeros_like(steps, dtype=torch.bool)
        logits = targets = present = shares.new_empty(0)
        active = torch.arange(len(chosen), device=images.device)
        for step in range(self.max_steps + 1):
            with torch.set_grad_enabled(step < self.max_steps):
                variables = grids[active].requires_grad_()
                masks = upsampled(variables, size)
                seen = teacher(blend(parts[active], masks).to(images.dtype)).float()
                if step == 0:  # only now is the number of classes known
                    logits = torch.zeros_like(seen)
                    targets = torch.zeros_like(logits).scatter_add_(1, classes, shares)
                    present = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, classes, True)
                losses = objective(masks, seen, targets[active], self.sparsity)
            logits[active] = seen.detach()
            done = all_first(seen, present[active]) if step else torch.zeros_like(active, dtype=torch.bool)
            success[active], steps[active] = done, step
            if step == self.max_steps or bool(done.all()):
                break
            [gradient] = torch.autograd.grad(losses, variables, (~done).to(losses.dtype))
            gradient, losses, active = gradient[~done], losses.detach()[~done], active[~done]
            grids[active] -= _step(gradient, losses, smooth)
        return Optimised(upsampled(grids, size), logits, targets, success, steps)


def objective(masks: Tensor, logits: Tensor, targets: Tensor, sparsity: float) -> Tensor:
    """Return KL(targets || softmax(logits)) + sparsity * mean |m (m - 1)| of each mix, (N,) float32."""
    divergence = F.kl_div(F.log_softmax(logits, dim=1), targets, reduction="none").sum(dim=1)
    return divergence + sparsity * (masks * (1 - masks)).mean(dim=(1, 2, 3))


def all_first(logits: Tensor, present: Tensor) -> Tensor:
    """Return whether the classes that are present, D of them, are the first D of the logits: (N,) bool.

    Args:
        logits: (N, K).
        present: (N, K) bool.
    """
    ranks = logits.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return ~(present & (ranks >= present.sum(dim=1, keepdim=True))).any(dim=1)


def blend(parts: Tensor, masks: Tensor) -> Tensor:
    """Return the sum of the sources (N, sources, 3, H, W) by their masks (N, sources, H, W), (N, 3, H, W)."""
    return (masks[:, :, None] * parts).sum(dim=1)


def upsampled(grids: Tensor, size: tuple[int, int]) -> Tensor:
    """Return masks (N, sources, H, W) of unbounded grids (N, sources, g, g): bilinear, sigmoid, summing to one.

    Two products of matrices instead of F.interpolate, whose gradient on a GPU is not the same from run to run.
    """
    rows, columns = (_interpolation(grids.shape[-1], side, grids.device) for side in size)
    with torch.autocast(grids.device.type, enabled=False):
        masks = torch.sigmoid(rows @ grids @ columns.T)
    return masks / masks.sum(dim=1, keepdim=True)


def _step(gradient: Tensor, losses: Tensor, smooth: Tensor) -> Tensor:
    """Return what to take from the grids (N, sources, g, g), given the gradient there and the losses (N,)."""
    with torch.autocast(gradient.device.type, enabled=False):
        direction = smooth @ gradient @ smooth
    slope = (gradient * direction).sum(dim=(1, 2, 3))
    length = (losses / (slope + 1e-10)).clamp(*STEP_RANGE)
    return length[:, None, None, None] * direction


def _interpolation(cells: int, pixels: int, device: torch.device) -> Tensor:
    """Return the matrix (pixels, cells) of linear interpolation, corners not aligned."""
    return F.interpolate(torch.eye(cells, device=device)[None], size=pixels, mode="linear", align_corners=False)[0].T


def _smoothing(cells: int, sigma: float) -> Tensor:
    """Return the matrix (cells, cells) of a Gaussian of five sigma's width, with zeros beyond the border."""
    radius = int(5 * sigma / 2)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    apart = torch.arange(cells)[:, None] - torch.arange(cells)
    values = (kernel / kernel.sum())[(apart + radius).clamp(0, 2 * radius)]
    return torch.where(apart.abs() <= radius, values, torch.zeros(()))
