"""Accuracy on mixed samples (Fig. 4): whether a network finds both images of a pair in their mix."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn


@torch.no_grad()
def mixed_accuracy(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    mix: Callable[[Tensor], tuple[Tensor, Tensor]],
    fabric: Fabric,
) -> dict[str, float]:
    """Classify mixed validation images. Pairs of one class are left out.

    Args:
        model: Images -> logits (N, K), in eval mode.
        batches: Normalised images (N, 3, H, W) and labels (N,).
        mix: Images to mixed images and the partner of each, (N,) int64.
        fabric: Sums the counts over its processes.

    Returns:
        {"mixed_acc1": .., "mixed_acc2": ..} in percent: the best class is one of the pair's two; the best two classes
        are the pair's. Empty where no pair of two classes was seen.
    """
    counts = torch.zeros(3, device=fabric.device)
    for images, labels in batches:
        mixed, index = mix(images)
        pair = torch.stack([labels, labels[index]], dim=1)
        best = model(mixed).topk(2, dim=1).indices
        one = (best[:, :1] == pair).any(dim=1)
        both = (best.sort(dim=1).values == pair.sort(dim=1).values).all(dim=1)
        apart = pair[:, 0] != pair[:, 1]
        counts += torch.stack([(one & apart).sum(), (both & apart).sum(), apart.sum()])
    ones, boths, total = torch.as_tensor(fabric.all_reduce(counts, reduce_op="sum")).tolist()
    return {"mixed_acc1": 100 * ones / total, "mixed_acc2": 100 * boths / total} if total else {}
