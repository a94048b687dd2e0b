"""What a training run offers to its mixing method: saliency, a frozen network, attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pretrain.backbones import cls_attention, stage_count, stage_features
from pretrain.mixups.policy import Criterion, MixContext


def training_context(model: nn.Module, criterion: Criterion, frozen: nn.Module | None = None) -> MixContext:
    """Return the context of a run.

    Args:
        model: The network that is trained.
        criterion: Its loss, of which saliency is the gradient.
        frozen: A trained classifier of `build_backbone`'s kind that stays as it is, in eval mode.
    """
    return MixContext(
        saliency=lambda images, targets: input_saliency(model, criterion, images, targets),
        features=None if frozen is None else _features_of(frozen),
        teacher=frozen,
        attention=cls_attention,
    )


def input_saliency(model: nn.Module, criterion: Criterion, images: Tensor, targets: Tensor) -> Tensor:
    """Return how much the loss hangs on each pixel: sqrt(mean over channels of gradient^2), (N, H, W) float32.

    The network is in eval mode meanwhile, as in PuzzleMix's code (main.py with clean_lam 0): no statistics move.
    Only the images are differentiated: parameters get no gradient, and the backward pass costs half of a full one.

    Args:
        model: Images to logits.
        criterion: Logits and targets to a scalar.
        images: (N, 3, H, W) float.
        targets: (N, K) float.
    """
    images = images.detach().requires_grad_()
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.enable_grad():
            loss = len(images) * criterion(model(images), targets)  # else float16 would lose small gradients
            [gradient] = torch.autograd.grad(loss, images)
    finally:
        for module in training:
            module.training = True
    return gradient.float().square().mean(dim=1).sqrt() / len(images)


def _features_of(network: nn.Module) -> Callable[[Tensor], Tensor]:
    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        return stage_features(network, images, stage_count(network))

    return features
