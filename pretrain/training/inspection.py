"""A look at the mixing every few epochs: accuracy on mixed samples, and a picture of masks over lambda."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from matplotlib.figure import Figure
from torch import Tensor

from pretrain.automix import AutoMix
from pretrain.data.seeds import derive_seed
from pretrain.data.transforms import Normalise
from pretrain.evaluation.looks import LAM, MaskLook, look_stem
from pretrain.evaluation.mixed_accuracy import mixed_accuracy
from pretrain.plots import DRAWN_LAMBDAS, draw_mixes, mix_over_lambda, save_png
from pretrain.training.methods import Classification


class MixingLook(NamedTuple):
    """What a look at AutoMix leaves: a picture of masks over lambda, and the masks of lambda = 0.5 as numbers."""

    figure: Figure
    masks: MaskLook

    def save(self, run: Path, epoch: int) -> None:
        """Write both into the run's folder, each atomically."""
        stem = look_stem(run, epoch)
        self.masks.save(stem)
        save_png(self.figure, stem.with_suffix(".png"))


@torch.no_grad()
def inspect_mixing(
    method: AutoMix | Classification,
    batches: Iterable[tuple[Tensor, Tensor]],
    pairs: Callable[[], Tensor],
    classes: int,
    seed: int,
    fabric: Fabric,
) -> tuple[dict[str, float], MixingLook | None]:
    """Measure and draw; the method's training mode is put back.

    Args:
        method: What is trained.
        batches: Validation images, normalised (N, 3, H, W), and labels.
        pairs: Gives the images to draw, (2 P, 3, H, W) normalised, neighbours belonging together.
        classes: Their number.
        seed: Of the draws of lambda and partners: every look sees the same ones.
        fabric: Sums the counts over its processes; the first one draws.

    Returns:
        What `mixed_accuracy` returns, for the method's result, and for AutoMix a look at the masks; nothing for a
        method that does not mix.
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
    look = None
    if isinstance(method, AutoMix) and fabric.is_global_zero:
        images = pairs()
        mixed, masks = mix_over_lambda(method.mix_block, method.features(images), images)
        as_seen, masks = Normalise().inverse, masks.float().cpu()
        shown = as_seen(images.cpu().float())
        kept = MaskLook((255 * shown).round().byte(), masks[:, DRAWN_LAMBDAS.index(LAM)].half())
        look = MixingLook(draw_mixes(shown, as_seen(mixed.cpu().float()), masks), kept)
    method.train(was_training)
    return found, look
