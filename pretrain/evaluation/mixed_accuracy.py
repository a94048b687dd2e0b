"""Accuracy on mixed samples (Fig. 4): whether a network finds both images of a pair in their mix."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class MixedMeter:
    """Counts batch by batch. Pairs of one class, and mixes that show one image only, are left out.

    The pair of a mix are the two classes that weigh most in its label.

    Args:
        model: Images -> logits (N, K), in eval mode.
        mix: Images and their one-hot targets (N, K) float to mixed images and their soft labels (N, K).
        classes: K.

    Attributes:
        counts: (3,) float32: mixes whose best class is of the pair, whose best two are the pair, and all.
    """

    def __init__(self, model: nn.Module, mix: Mix, classes: int) -> None:
        self.model, self.mix, self.classes = model, mix, classes
        self.counts = torch.zeros(3)

    @torch.no_grad()
    def update(self, images: Tensor, labels: Tensor) -> None:
        """Mix and classify a batch: normalised images (N, 3, H, W) and labels (N,)."""
        mixed, soft_labels = self.mix(images, F.one_hot(labels, self.classes).float())
        weights, pair = soft_labels.topk(2, dim=1)
        best = self.model(mixed).topk(2, dim=1).indices
        one = (best[:, :1] == pair).any(dim=1)
        both = (best.sort(dim=1).values == pair.sort(dim=1).values).all(dim=1)
        apart = weights[:, 1] > 0
        counts = torch.stack([(one & apart).sum(), (both & apart).sum(), apart.sum()])
        self.counts = self.counts.to(counts.device) + counts

    @property
    def pairs(self) -> int:
        """The number of mixes that count."""
        return int(self.counts[2])

    def compute(self) -> dict[str, float]:
        """Return {"mixed_acc1": .., "mixed_acc2": ..} in percent; empty where no pair of two classes was seen."""
        return _shares(self.counts)


def mixed_accuracy(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], mix: Mix, classes: int, fabric: Fabric
) -> dict[str, float]:
    """Classify mixed validation images, over all processes; see `MixedMeter`.

    Args:
        model, mix, classes: See `MixedMeter`.
        batches: Normalised images (N, 3, H, W) and labels (N,).
        fabric: Sums the counts over its processes.

    Returns:
        {"mixed_acc1": .., "mixed_acc2": ..} in percent: the best class is one of the pair's two; the best two classes
        are the pair's. Empty where no pair of two classes was seen.
    """
    meter = MixedMeter(model, mix, classes)
    for images, labels in batches:
        meter.update(images, labels)
    return _shares(torch.as_tensor(fabric.all_reduce(meter.counts.to(fabric.device), reduce_op="sum")))


def _shares(counts: Tensor) -> dict[str, float]:
    ones, boths, total = counts.tolist()
    return {"mixed_acc1": 100 * ones / total, "mixed_acc2": 100 * boths / total} if total else {}
