"""Top-1 and top-5 accuracy."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy


def accuracy_metrics(num_classes: int, device: torch.device) -> dict[int, MulticlassAccuracy]:
    """Return torchmetrics' top-1 and top-5 accuracy, by k; top-5 is top-K where there are fewer than five classes."""
    return {k: MulticlassAccuracy(num_classes, top_k=min(k, num_classes), average="micro").to(device) for k in (1, 5)}


@torch.no_grad()
def accuracy(
    models: dict[str, nn.Module], batches: Iterable[tuple[Tensor, Tensor]], num_classes: int, fabric: Fabric
) -> dict[str, float]:
    """Measure several networks on the same batches, in eval mode; their training mode is put back.

    Args:
        models: Networks by name, each images -> logits (N, K).
        batches: Normalised images (N, 3, H, W) and labels (N,).
        num_classes: K.
        fabric: Sums the counts over its processes.

    Returns:
        {"NAME_top1": .., "NAME_top5": ..} in percent, see `accuracy_metrics`.
    """
    metrics = {
        f"{name}_top{k}": metric
        for name in models
        for k, metric in accuracy_metrics(num_classes, fabric.device).items()
    }
    modes = {name: model.training for name, model in models.items()}
    for model in models.values():
        model.eval()
    for images, labels in batches:
        for name, model in models.items():
            logits = model(images)
            for k in (1, 5):
                metrics[f"{name}_top{k}"].update(logits, labels)
    for name, model in models.items():
        model.train(modes[name])
    return {name: 100 * float(metric.compute()) for name, metric in metrics.items()}
