"""Accuracy on mixed samples (Fig. 4): whether a network finds both images of a pair in their mix."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F


@torch.no_grad()
def mixed_accuracy(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    classes: int,
    fabric: Fabric,
) -> dict[str, float]:
    """Classify mixed validation images. Pairs of one class, and mixes that show one image only, are left out.

    The pair of a mix are the two classes that weigh most in its label.

    Args:
        model: Images -> logits (N, K), in eval mode.
        batches: Normalised images (N, 3, H, W) and labels (N,).
        mix: Images and their one-hot targets (N, K) float to mixed images and their soft labels (N, K).
        classes: K.
        fabric: Sums the counts over its processes.

    Returns:
        {"mixed_acc1": .., "mixed_acc2": ..} in percent: the best class is one of the pair's two; the best two classes
        are the pair's. Empty where no pair of two classes was seen.
    """
    counts = torch.zeros(3, device=fabric.device)
    for images, labels in batches:
        mixed, soft_labels = mix(images, F.one_hot(labels, classes).float())
        weights, pair = soft_labels.topk(2, dim=1)
        best = model(mixed).topk(2, dim=1).indices
        one = (best[:, :1] == pair).any(dim=1)
        both = (best.sort(dim=1).values == pair.sort(dim=1).values).all(dim=1)
        apart = weights[:, 1] > 0
        counts += torch.stack([(one & apart).sum(), (both & apart).sum(), apart.sum()])
    ones, boths, total = torch.as_tensor(fabric.all_reduce(counts, reduce_op="sum")).tolist()
    return {"mixed_acc1": 100 * ones / total, "mixed_acc2": 100 * boths / total} if total else {}
