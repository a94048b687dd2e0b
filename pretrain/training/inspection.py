"""A look at the mixing every few epochs: accuracy on mixed samples, and a picture of masks over lambda."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Tensor

from pretrain.automix import AutoMix
from pretrain.data.seeds import derive_seed
from pretrain.data.transforms import Normalise
from pretrain.evaluation.mixed_accuracy import mixed_accuracy
from pretrain.plots import draw_mixes, mix_over_lambda
from pretrain.training.methods import Classification


@torch.no_grad()
def inspect_mixing(
    method: AutoMix | Classification,
    batches: Iterable[tuple[Tensor, Tensor]],
    pairs: Callable[[], Tensor],
    classes: int,
    seed: int,
    fabric: Fabric,
) -> tuple[dict[str, float], Figure | None]:
    """Measure and draw; the method's training mode is put back.

    Args:
        method: What is trained.
        batches: Validation images, normalised (N, 3, H, W), and labels.
        pairs: Gives the images to draw, (2 P, 3, H, W) normalised, neighbours belonging together.
        classes: Their number.
        seed: Of the draws of lambda and partners: every look sees the same ones.
        fabric: Sums the counts over its processes; the first one draws.

    Returns:
        What `mixed_accuracy` returns, for the method's result, and for AutoMix a figure; nothing for a method that
        does not mix.
    """
    if not method.mixes:
        return {}, None
    was_training = method.training
    method.eval()
    generator = torch.Generator().manual_seed(derive_seed(seed, fabric.global_rank))
    network = next(iter(method.encoders().values()))

    def mix(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return method.mixed(images, targets, generator)

    found = mixed_accuracy(network, batches, mix, classes, fabric)
    figure = None
    if isinstance(method, AutoMix) and fabric.is_global_zero:
        images = pairs()
        mixed, masks = mix_over_lambda(method.mix_block, method.features(images), images)
        as_seen = Normalise().inverse
        figure = draw_mixes(as_seen(images.cpu().float()), as_seen(mixed.cpu().float()), masks.cpu())
    method.train(was_training)
    return found, figure
