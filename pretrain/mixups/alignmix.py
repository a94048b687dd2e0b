"""AlignMix (Venkataramanan et al., 2022): features mixed where they correspond, by optimal transport of positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from pretrain.mixups.mixup import MixUp
from pretrain.mixups.policy import Draw, MixContext, MixResult, PairPolicy, mix_targets, require_positive
from pretrain.mixups.stage import StageMix


@dataclass(frozen=True)
class AlignDraw(Draw):
    """What is mixed and how.

    Attributes:
        in_features: Whether the last stage's features are mixed, or else the input.
        to_partner: Whether image i is aligned to its partner, or else the partner to image i.
    """

    in_features: bool
    to_partner: bool


@dataclass(frozen=True)
class AlignMix(PairPolicy):
    """Half of the batches are MixUp, the other half mixes the last stage's feature maps, one aligned to the other.

    The variant without an autoencoder, as the authors' repository trains it, shashankvkt/AlignMixup_CVPR22. See
    `align`. Where a network only averages the last stage's map, as ResNets do, moving features to other positions
    leaves the average, the loss and its gradient those of a plain mix.

    Attributes:
        alpha: lambda ~ Beta(alpha, alpha).
        eps: Weight of the plan's entropy; costs are squared distances of raw features.
        iterations: Of Sinkhorn's algorithm. The authors stop earlier, once potentials move by less than 0.1.
    """

    name: ClassVar[str] = "alignmix"
    mixes_images: ClassVar[bool] = False
    alpha: float = 2.0
    eps: float = 0.1
    iterations: int = 100

    def __post_init__(self) -> None:
        """Check the settings; a ValueError names the wrong one."""
        require_positive(self.name, alpha=self.alpha, eps=self.eps, iterations=self.iterations)

    def draw_more(self, pairs: Draw, n: int, size: tuple[int, int], generator: torch.Generator | None) -> AlignDraw:
        """Draw two coins; see `PairPolicy`."""
        in_features, to_partner = (torch.rand(2, generator=generator) < 0.5).tolist()
        return AlignDraw(pairs.lam, pairs.index, in_features, to_partner)

    def apply(self, images: Tensor, targets: Tensor, draw: AlignDraw, context: MixContext | None = None) -> MixResult:
        """See `MixPolicy`; the images come back clean where features are mixed, which `StageMix.loss` does."""
        if not draw.in_features:
            return MixUp(self.alpha).apply(images, targets, draw, context)
        index = draw.index.to(images.device, non_blocking=True)
        lam = images.new_full((len(images),), draw.lam, dtype=torch.float32)
        mix = partial(align, lam=draw.lam, to_partner=draw.to_partner, eps=self.eps, iterations=self.iterations)
        return StageMix(images, lam, index, None, mix_targets(targets, index, lam), stage=None, mix=mix)


def align(own: Tensor, other: Tensor, *, lam: float, to_partner: bool, eps: float, iterations: int) -> Tensor:
    """Return lam * own + (1 - lam) * other, one of them moved to the positions of the other.

    With R = r * plan, A the own and A' the other features, (C, r): A' R^T stands in for A', or A R for A. The plan gets
    no gradient, the features do. Computed in float32, also under autocast.

    Args:
        own, other: (N, C, h, w), r = h * w positions.
        lam: The share of `own`.
        to_partner: Whether `own` moves, or else `other`.
        eps, iterations: See `sinkhorn`.

    Returns:
        (N, C, h, w) of the dtype of `own`.

    Raises:
        ValueError: The features are tokens.
    """
    if own.ndim != 4:
        raise ValueError(
            f"alignmix: needs feature maps (N, C, h, w), and the last stage of this network gives {tuple(own.shape)}: "
            "class tokens have no position to align; take a convolutional network or Swin"
        )
    with torch.autocast(own.device.type, enabled=False):
        first, second = (features.float().flatten(2).mT for features in (own, other))
        with torch.no_grad():
            # Not by matrix products: what they lose to rounding, the more so in TF32, is large beside eps.
            distance = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
            assignment = first.shape[1] * sinkhorn(distance.square(), eps, iterations)
        if to_partner:
            first = assignment.mT @ first
        else:
            second = assignment @ second
        return torch.lerp(second, first, lam).mT.unflatten(2, own.shape[2:]).to(own.dtype)


def sinkhorn(cost: Tensor, eps: float, iterations: int) -> Tensor:
    """Return transport plans P that minimise <P, cost> - eps * entropy(P), with rows and columns summing to 1 / r.

    Sinkhorn's iterations on the potentials, in the log domain. The first half lowers eps from the largest cost to its
    value, since costs far above eps need many more iterations from a cold start. As a fixed number of iterations leaves
    the rows a little off, the plan is then put onto its marginals (Altschuler et al., 2017, Algorithm 2), which makes
    them exact up to rounding without reading an error back to the host.

    Args:
        cost: (N, r, r) float32, not negative.
        eps: Of the entropy, in the cost's unit; towards 0, r * P becomes a permutation.
        iterations: Updates of both potentials.

    Returns:
        (N, r, r) float32.
    """
    log_size = math.log(cost.shape[-1])
    warm = (cost.amax(dim=(1, 2), keepdim=True) / eps).clamp(min=1)
    rows, columns = torch.zeros_like(cost[:, :, :1]), torch.zeros_like(cost[:, :1])
    for step in range(iterations):
        current = eps * warm ** max(0.0, 1 - 2 * (step + 1) / iterations)
        rows = -current * (((columns - cost) / current).logsumexp(2, keepdim=True) + log_size)
        columns = -current * (((rows - cost) / current).logsumexp(1, keepdim=True) + log_size)
    return _onto_marginals(((rows + columns - cost) / eps).exp())


def _onto_marginals(plan: Tensor) -> Tensor:
    """Scale down the rows, then the columns, that sum to more than 1 / r, and spread what is missing."""
    share = 1 / plan.shape[-1]
    plan = plan * (share / plan.sum(2, keepdim=True)).clamp(max=1)
    plan = plan * (share / plan.sum(1, keepdim=True)).clamp(max=1)
    short_rows, short_columns = ((share - plan.sum(dim, keepdim=True)).clamp(min=0) for dim in (2, 1))
    missing = short_rows.sum(1, keepdim=True).clamp(min=torch.finfo(plan.dtype).tiny)
    return plan + short_rows / missing * short_columns
