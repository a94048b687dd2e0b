"""AugMix (Hendrycks et al., 2020): views of an image by mixed chains of operations, and a loss for their agreement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from pretrain.mixups.augmix_ops import OPS
from pretrain.mixups.policy import (
    Criterion,
    Draw,
    MixContext,
    MixPolicy,
    MixResult,
    require_positive,
    sample_dirichlet,
    sample_lam,
)

VIEWS = 3  # the clean image and two augmented ones
MIN_LEVEL, MAX_LEVEL = 0.1, 10.0  # of the operations' strength


@dataclass(frozen=True)
class ViewDraw:
    """What is random about one augmented view.

    Attributes:
        share: m, of the chains' mixture; the clean image has the rest.
        weights: w, of each chain; they sum to one.
        chains: The operations of each chain in order, as pairs of a name in `OPS` and a signed level.
    """

    share: float
    weights: tuple[float, ...]
    chains: tuple[tuple[tuple[str, float], ...], ...]


@dataclass(frozen=True)
class AugMixResult(MixResult):
    """A batch of views, (N * 3, 3, H, W), the views of an image side by side; lam, index and labels are the images'."""

    jsd_weight: float = field(kw_only=True)

    def loss(self, model: nn.Module, criterion: Criterion) -> Tensor:
        """Return the loss of the clean views plus `jsd_weight` times the divergence of all three, a scalar."""
        logits = model(self.images).unflatten(0, (-1, VIEWS))
        return criterion(logits[:, 0], self.soft_targets) + self.jsd_weight * jensen_shannon(logits)


@dataclass(frozen=True)
class AugMix(MixPolicy):
    """A data transform, `views`, and a loss over what it made; images are not mixed with each other.

    Settings are those of the official CIFAR script (google-research/augmix); the ImageNet one has severity 1.

    Attributes:
        severity: Levels are drawn from U(0.1, severity), in tenths of an operation's range.
        width: Chains a view.
        depth: Operations a chain; -1 draws one to three for each.
        alpha: Of w ~ Dirichlet(alpha, ..., alpha) and of m ~ Beta(alpha, alpha).
        jsd_weight: Of the Jensen-Shannon divergence in the loss.
    """

    name: ClassVar[str] = "augmix"
    mixes_images: ClassVar[bool] = False
    severity: float = 3.0
    width: int = 3
    depth: int = -1
    alpha: float = 1.0
    jsd_weight: float = 12.0

    def __post_init__(self) -> None:
        """Check the settings; a ValueError names the wrong one."""
        require_positive(self.name, width=self.width, alpha=self.alpha, jsd_weight=self.jsd_weight)
        if not MIN_LEVEL <= self.severity <= MAX_LEVEL:
            raise ValueError(f"{self.name}: severity has to be in [{MIN_LEVEL}, {MAX_LEVEL}], not {self.severity}")
        if self.depth != -1 and self.depth < 1:
            raise ValueError(f"{self.name}: depth has to be positive, or -1 for one to three, not {self.depth}")

    def views(self, image: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the image and two augmented views of it; the last transform of a training loader.

        Pixels are mixed in float32 and rounded once, at the end, so that a view is within half a level of the mixture.
        To mix before normalising is the same as after it, since the weights sum to one.

        Args:
            image: (3, H, W) uint8.
            generator: On the CPU; the global one where it is None, which the loader seeds for each sample.

        Returns:
            (3, 3, H, W) uint8, the clean image first.

        Raises:
            ValueError: The image is of another type or shape.
        """
        if image.dtype != torch.uint8 or image.ndim != 3:
            raise ValueError(f"{self.name}: views are of uint8 (3, H, W), not {image.dtype} {tuple(image.shape)}")
        return torch.stack([image] + [augment(image, self.sample_view(generator)) for _ in range(VIEWS - 1)])

    def sample_view(self, generator: torch.Generator | None = None) -> ViewDraw:
        """Draw everything that is random about one augmented view."""
        chains = []
        for _ in range(self.width):
            depth = self.depth if self.depth > 0 else int(torch.randint(1, 4, (), generator=generator))
            chains.append(tuple(self._sample_operation(generator) for _ in range(depth)))
        return ViewDraw(
            sample_lam(self.alpha, generator),
            tuple(sample_dirichlet(self.alpha, (self.width,), generator).tolist()),
            tuple(chains),
        )

    def _sample_operation(self, generator: torch.Generator | None) -> tuple[str, float]:
        which, level, sign = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        level = MIN_LEVEL + level * (self.severity - MIN_LEVEL)
        return list(OPS)[int(which * len(OPS))], level if sign < 0.5 else -level

    def sample(
        self,
        n: int,
        size: tuple[int, int],
        generator: torch.Generator | None = None,
        lam: float | None = None,
        index: Tensor | None = None,
    ) -> Draw:
        """Draw nothing: the loader has, and an image is its own partner."""
        return Draw(1.0, torch.arange(n))

    def apply(self, images: Tensor, targets: Tensor, draw: Draw, context: MixContext | None = None) -> AugMixResult:
        """See `MixPolicy`; images are (N, 3, 3, H, W), the views of each as `views` made them, normalised."""
        lam = torch.ones(len(images), device=images.device)
        index = draw.index.to(images.device, non_blocking=True)
        return AugMixResult(images.flatten(0, 1), lam, index, None, targets, jsd_weight=self.jsd_weight)

    def check(self, images: Tensor, targets: Tensor, context: MixContext | None) -> None:
        """Raise a ValueError that says what does not fit; see `apply`."""
        if images.ndim != 5 or images.shape[1] != VIEWS or not images.is_floating_point():
            raise ValueError(
                f"{self.name}: images have to be float (N, {VIEWS}, 3, H, W), not {images.dtype} "
                f"{tuple(images.shape)}; the views come from the loader, whose last transform is AugMix.views"
            )
        self._check_targets(len(images), targets)


def augment(image: Tensor, draw: ViewDraw) -> Tensor:
    """Return (1 - m) * image + m * (w-weighted mean of the chains' results), uint8 (3, H, W), of what was drawn."""
    mixed = (1 - draw.share) * image.float()
    for weight, chain in zip(draw.weights, draw.chains):
        augmented = image
        for name, level in chain:
            augmented = OPS[name](augmented, level)
        mixed.add_(augmented, alpha=draw.share * weight)
    return mixed.round_().clamp_(0, 255).to(torch.uint8)


def jensen_shannon(logits: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of V predictions, the mean over the batch, in nats; a float32 scalar.

    The mixture is clamped to [1e-7, 1], as in the official scripts.

    Args:
        logits: (N, V, K), any float type.
    """
    log_views = logits.float().log_softmax(dim=2)
    views = log_views.exp()
    log_mixture = views.mean(dim=1, keepdim=True).clamp(1e-7, 1).log()
    return (views * (log_views - log_mixture)).sum(dim=2).mean()
