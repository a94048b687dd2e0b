"""What a mixing method is: from a batch and random draws to a mixed batch with soft labels, and to its loss."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from scipy.special import betaincinv, gammaincinv
from torch import Tensor, nn
from torch.nn import functional as F

Criterion = Callable[[Tensor, Tensor], Tensor]  # logits (N, K) and targets, (N,) int64 or (N, K) float, to a scalar


@dataclass(frozen=True)
class MixResult:
    """A mixed batch. Labels are a matrix of weights, whose view for pairs is (index, lam).

    Attributes:
        images: (N, 3, H, W), the mixed images.
        lam: (N,) float, the share of image i in its label; None where more than two images meet.
        index: (N,) int64, the partner of each image; None where more than two images meet.
        mask: (N, 1, H, W), the weight of image i at each pixel; (N, N, h, w), the weight of every image of the batch by
            blocks, where more than two images meet; None where the mix is not by pixels.
        soft_targets: (N, K) float, rows summing to one.
        shares: (N, N) float, rows summing to one, where more than two images meet; else None: see `weights`.
    """

    images: Tensor
    lam: Tensor | None
    index: Tensor | None
    mask: Tensor | None
    soft_targets: Tensor
    shares: Tensor | None = None

    @property
    def weights(self) -> Tensor:
        """The share of every image of the batch in every label: (N, N) float, rows summing to one."""
        if self.shares is not None:
            return self.shares
        assert self.lam is not None
        assert self.index is not None
        own = torch.diag(self.lam)
        return own.scatter_add(1, self.index[:, None], 1 - self.lam[:, None])

    def loss(self, model: nn.Module, criterion: Criterion) -> Tensor:
        """Return the loss of the mixed batch, a scalar; methods that act inside the network have their own way here."""
        return criterion(model(self.images), self.soft_targets)


@dataclass(frozen=True)
class MixContext:
    """What a method may ask for beside the images. Nothing is computed before a method calls for it.

    Attributes:
        saliency: Images (N, 3, H, W) and targets (N, K) to (N, H, W) float, how much the loss hangs on each pixel.
        features: Images (N, 3, H, W) to the feature map (N, C, h, w) of a frozen network.
        teacher: Images (N, 3, H, W) to the logits (N, K) of a frozen network, differentiable to the images.
        attention: A network to a context manager around its forward pass, which yields a list; the pass appends to it
            the attention (N, h, w) of the class token to the patches, in the last block.
    """

    saliency: Callable[[Tensor, Tensor], Tensor] | None = None
    features: Callable[[Tensor], Tensor] | None = None
    teacher: Callable[[Tensor], Tensor] | None = None
    attention: Callable[[nn.Module], AbstractContextManager[list[Tensor]]] | None = None


@dataclass(frozen=True)
class Draw:
    """What a method draws for a batch; methods add to it what else they draw.

    Attributes:
        lam: The share of image i that is asked for.
        index: (N,) int64 on the CPU, the partner of each image.
    """

    lam: float
    index: Tensor


@dataclass(frozen=True)
class MixPolicy(ABC):
    """A mixing method: a frozen dataclass of its settings. Pure, out of place, one generator.

    Attributes:
        name: What configs call it.
        needs: What it asks of its context, of the fields of `MixContext`.
        views: The loader's last transform, image (3, H, W) uint8 to its views (V, 3, H, W) uint8, for a method whose
            batches are (N, V, 3, H, W); None: batches are (N, 3, H, W).
        mixes_images: False where there are no mixed images to look at, since the mix is made inside the network.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()
    views: ClassVar[Callable[..., Tensor] | None] = None
    mixes_images: ClassVar[bool] = True

    def __call__(
        self,
        images: Tensor,
        targets: Tensor,
        context: MixContext | None = None,
        generator: torch.Generator | None = None,
    ) -> MixResult:
        """Mix a batch.

        Args:
            images: (N, 3, H, W) float, normalised.
            targets: (N, K) float, one-hot or soft labels.
            context: What the method `needs` beside the images.
            generator: On the CPU; the global one where it is None.

        Raises:
            ValueError: Images and targets do not fit together, or the context lacks what the method needs.
        """
        self.check(images, targets, context)
        draw = self.sample(len(images), (images.shape[-2], images.shape[-1]), generator)
        return self.apply(images, targets, draw, context)

    @abstractmethod
    def sample(
        self,
        n: int,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
        lam: float | None = None,
        index: Tensor | None = None,
    ) -> Draw:
        """Draw everything that is random about a mix of `n` images of `size` (H, W), on the CPU.

        Args:
            n, size: Of the batch.
            generator: On the CPU; the global one where it is None.
            lam, index: Given instead of drawn, for methods that draw them.
        """

    @abstractmethod
    def apply(self, images: Tensor, targets: Tensor, draw: Any, context: MixContext | None = None) -> MixResult:
        """Mix a batch with what was drawn; nothing is random here. See `__call__`."""

    def check(self, images: Tensor, targets: Tensor, context: MixContext | None) -> None:
        """Raise a ValueError that says what does not fit."""
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                f"{self.name}: images have to be float (N, 3, H, W), not {images.dtype} {tuple(images.shape)}"
            )
        self._check_targets(len(images), targets)
        for need in self.needs:
            self.ask(context, need)

    def ask(self, context: MixContext | None, need: str) -> Callable[..., Any]:
        """Return what the context offers under the name of one of its fields; a ValueError says that it lacks it."""
        offered: Callable[..., Any] | None = getattr(context, need, None)
        if offered is None:
            raise ValueError(f"{self.name}: the context has no {need}, which this method needs; see MixContext")
        return offered

    def _check_targets(self, n: int, targets: Tensor) -> None:
        if targets.ndim != 2 or not targets.is_floating_point():
            raise ValueError(
                f"{self.name}: targets have to be float (N, K), not {targets.dtype} {tuple(targets.shape)}; "
                "one_hot(labels, num_classes) makes them of labels"
            )
        if len(targets) != n:
            raise ValueError(f"{self.name}: {n} images and {len(targets)} targets do not fit together")


@dataclass(frozen=True)
class PairPolicy(MixPolicy):
    """A method that mixes pairs, with one lambda ~ Beta(alpha, alpha) a batch.

    Attributes:
        alpha: Of the Beta distribution.
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings; a ValueError names the wrong one."""
        require_positive(self.name, alpha=self.alpha)

    def sample(
        self,
        n: int,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
        lam: float | None = None,
        index: Tensor | None = None,
    ) -> Draw:
        """Draw lambda and partners, then what else the method draws; see `MixPolicy.sample`."""
        if lam is not None and not 0 <= lam <= 1:
            raise ValueError(f"{self.name}: lambda has to be in [0, 1], not {lam}")
        pairs = Draw(
            self.draw_lam(generator) if lam is None else lam,
            sample_partners(n, generator=generator) if index is None else index,
        )
        return self.draw_more(pairs, n, size, generator)

    def draw_lam(self, generator: torch.Generator | None) -> float:
        """Return lambda, where it is not given."""
        return sample_lam(self.alpha, generator)

    def draw_more(self, pairs: Draw, n: int, size: tuple[int, int], generator: torch.Generator | None) -> Draw:
        """Return lambda and partners with what else the method draws; nothing here."""
        return pairs


def require_positive(name: str, **values: float) -> None:
    """Raise a ValueError that names the first setting of a method that is not positive."""
    for key, value in values.items():
        if not value > 0:
            raise ValueError(f"{name}: {key} has to be positive, not {value}")


def sample_lam(alpha: float, generator: torch.Generator | None = None) -> float:
    """Draw lambda ~ Beta(alpha, alpha) by inverting its distribution function, so that `generator` decides alone."""
    return float(betaincinv(alpha, alpha, torch.rand((), generator=generator, dtype=torch.float64).item()))


def sample_dirichlet(alpha: float, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
    """Draw float64 weights ~ Dirichlet(alpha, ..., alpha) along the last axis: gamma variates over their sum.

    As in `sample_lam`, distribution functions are inverted, so that `generator` decides alone.
    """
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    gamma = torch.from_numpy(gammaincinv(alpha, uniform.numpy())).clamp_min(1e-300)
    return gamma / gamma.sum(dim=-1, keepdim=True)


def sample_partners(n: int, device: torch.device | str = "cpu", generator: torch.Generator | None = None) -> Tensor:
    """Draw a permutation (n,) int64: the partner of each image, on `device`."""
    return torch.randperm(n, generator=generator).to(device, non_blocking=True)


def one_hot(labels: Tensor, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return (N, K) targets of labels (N,) int64, without torch's check of their range, which reads them back.

    Raises:
        ValueError: A label is not in 0 .. num_classes - 1. On a GPU it is CUDA's own assertion that says so, since a
            check would make the host wait.
    """
    try:
        return torch.zeros((len(labels), num_classes), dtype=dtype, device=labels.device).scatter_(
            1, labels[:, None], 1
        )
    except RuntimeError as error:
        outside = labels[(labels < 0) | (labels >= num_classes)].unique().tolist()
        if outside:
            raise ValueError(f"labels {outside[:5]} are outside 0 .. {num_classes - 1}") from error
        raise


def mix_targets(targets: Tensor, index: Tensor, lam: Tensor) -> Tensor:
    """Return lam * targets[i] + (1 - lam) * targets[index[i]], (N, K)."""
    return lam[:, None] * targets + (1 - lam[:, None]) * targets[index]


def paste_cells(images: Tensor, targets: Tensor, index: Tensor, ranks: Tensor, share: float) -> MixResult:
    """Show image i at the cells of a square grid that rank first, round(share * cells) of them; see `paste`.

    Args:
        images, targets, index: As for `paste`.
        ranks: (N, cells) int64, the place of each cell in the order, row by row.
        share: Of the cells.
    """
    cells = ranks.shape[1]
    shown = (ranks < round(share * cells)).to(torch.float32).view(len(images), 1, math.isqrt(cells), -1)
    return paste(images, targets, index, F.interpolate(shown, size=images.shape[-2:], mode="nearest"))


def paste(images: Tensor, targets: Tensor, index: Tensor, mask: Tensor) -> MixResult:
    """Show image i where a mask of zeros and ones is one, and its partner elsewhere; lam is the mask's mean.

    Args:
        images, targets: The batch.
        index: (N,) int64, on any device.
        mask: (N or 1, 1, H, W), on any device, any dtype.
    """
    index = index.to(images.device, non_blocking=True)
    shown = mask.to(images.device, torch.bool, non_blocking=True)
    mixed = torch.where(shown, images, images[index])
    full = shown.to(torch.float32).expand(len(images), 1, *images.shape[-2:])
    lam = full.mean(dim=(1, 2, 3))
    return MixResult(mixed, lam, index, full, mix_targets(targets, index, lam))
