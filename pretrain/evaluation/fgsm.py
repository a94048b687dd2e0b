"""The fast gradient sign method (Goodfellow et al. 2015): the error under one step against the network itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 8 / 255  # Table 6


def fgsm(
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    normalise: Callable[[Tensor], Tensor],
    epsilon: float = EPSILON,
) -> Tensor:
    """Move every pixel by `epsilon` so that the cross-entropy of the true class grows; one step of the gradient's sign.

    The network is in eval mode and its parameters get no gradient; both are put back.

    Args:
        model: Normalised images (N, 3, H, W) to logits (N, K).
        pixels: (N, 3, H, W), uint8 or float, on the scale of 8 bits: [0, 255] stands for the [0, 1] of `epsilon`.
        labels: (N,) int64.
        normalise: Pixels on that scale to what the network takes, differentiable.
        epsilon: Largest change of a pixel, on the scale [0, 1].

    Returns:
        The attacked pixels, (N, 3, H, W) float32 in [0, 255]; they are not rounded to 8 bits.
    """
    pixels = pixels.detach().to(torch.float32, copy=True).requires_grad_()
    with _as_it_is(model), torch.enable_grad():
        loss = F.cross_entropy(model(normalise(pixels)), labels, reduction="sum")
        [gradient] = torch.autograd.grad(loss, pixels)
    return (pixels.detach() + 255 * epsilon * gradient.sign()).clamp(0, 255)


@contextmanager
def _as_it_is(model: nn.Module) -> Iterator[None]:
    """Within it the network is in eval mode and frozen."""
    training = [module for module in model.modules() if module.training]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)


class FgsmMeter:
    """Gathers the error under the attack batch by batch.

    Args:
        model: Normalised images (N, 3, H, W) to logits (N, K); it is judged in eval mode.
        normalise: See `fgsm`.
        epsilon: See `fgsm`.
    """

    def __init__(self, model: nn.Module, normalise: Callable[[Tensor], Tensor], epsilon: float = EPSILON) -> None:
        self.model, self.normalise, self.epsilon = model, normalise, epsilon
        self._wrong: Tensor | int = 0
        self._seen = 0

    def update(self, pixels: Tensor, labels: Tensor) -> None:
        """Attack a batch, see `fgsm`, and count what the network then gets wrong."""
        attacked = fgsm(self.model, pixels, labels, self.normalise, self.epsilon)
        with _as_it_is(self.model), torch.no_grad():
            wrong = self.model(self.normalise(attacked)).argmax(dim=1) != labels
        self._wrong = self._wrong + wrong.sum()
        self._seen += len(labels)

    def compute(self) -> float:
        """Return the share of wrong answers so far, in percent."""
        return 100 * int(self._wrong) / self._seen
