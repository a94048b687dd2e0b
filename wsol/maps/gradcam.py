"""Grad-CAM and its relatives by the grad-cam library (Gildenblat and others, github.com/jacobgil/pytorch-grad-cam).

What it makes is taken as it comes: channels weighted and summed in float32, a ReLU, bilinear resizing to the image's
size, division by the maximum and 1e-7.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pretrain.console import UserError
from wsol.maps.cam import run
from wsol.maps.pooling import Averages, channels_first

CLASSES = {"gradcam": "GradCAM", "gradcam++": "GradCAMPlusPlus", "layercam": "LayerCAM", "scorecam": "ScoreCAM"}
Arrange = Callable[[Tensor], Tensor]


def library() -> Any:
    """Return the module pytorch_grad_cam.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module("pytorch_grad_cam")
    except ImportError as error:
        raise UserError(
            f"this method needs the grad-cam library ({error}); install it: pip install 'mixup-transfer[cam]'"
        ) from error


class Tapped(nn.Module):
    """A classifier whose last feature map goes through `tap`, where the library hooks it.

    That map is the one that global average pooling averages, as in the plain CAM. A vision transformer answers from its
    class token, on which the other tokens act for the last time in the last block's attention: there it is the input of
    that attention, the output of the block's first norm.

    The tap is used only where gradients are computed: Score-CAM's passes over masked images run without, and the
    library would keep the map of each of them.

    Args:
        network: A classifier of timm or torchvision.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.tap = nn.Identity()
        self._averages = 0
        self._layer, self._patch, self._prefix = _attention_input(network)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of images (N, 3, H, W)."""
        if not torch.is_grad_enabled():
            return run(self.network, images)
        if self._layer is None:
            with Averages(self.tap, self._averages):
                return run(self.network, images)
        handle = self._layer.register_forward_hook(lambda module, given, tokens: self.tap(tokens))
        try:
            return run(self.network, images)
        finally:
            handle.remove()

    def arrange(self, images: Tensor) -> Arrange:
        """Return what brings the tapped map of such images to (N, C, h, w), and set the tap where it is.

        Raises:
            UserError: The network has no such map.
        """
        height, width = images.shape[2:]
        if self._layer is not None:
            return _Grid(height // self._patch[0], width // self._patch[1], self._prefix)
        with torch.no_grad(), Averages() as averages:
            run(self.network, images[:1])
        if not averages.count:
            raise UserError(
                f"{type(self.network).__name__} has no feature map for this method: of images of {height}x{width} it "
                "averages none of more than one place, and it is no vision transformer with blocks and norms; take "
                "another network"
            )
        self._averages, positions = averages.count, averages.positions
        return lambda features: channels_first(features, positions)


class _Grid:
    """Brings tokens (N, prefix + h * w, C) to (N, C, h, w); the class token and its like are left out."""

    def __init__(self, height: int, width: int, prefix: int) -> None:
        self.height, self.width, self.prefix = height, width, prefix

    def __call__(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, self.prefix :]
        if patches.shape[1] != self.height * self.width:
            raise UserError(
                f"{tokens.shape[1]} tokens are not {self.prefix} and {self.height}x{self.width}; take another network"
            )
        return patches.transpose(1, 2).unflatten(2, (self.height, self.width))


def _attention_input(network: Any) -> tuple[nn.Module | None, tuple[int, int], int]:
    """Return a vision transformer's last norm before attention, its patch size and its number of class tokens."""
    try:
        if hasattr(network, "num_prefix_tokens"):  # timm
            return network.blocks[-1].norm1, network.patch_embed.patch_size, int(network.num_prefix_tokens)
        if hasattr(network, "class_token"):  # torchvision
            return network.encoder.layers[-1].ln_1, (network.patch_size, network.patch_size), 1
    except AttributeError:  # a relative without such a block, for which the average stands
        return None, (1, 1), 0
    return None, (1, 1), 0


def library_maps(
    tapped: Tapped, images: Tensor, labels: Tensor | None, method: str, score_batch: int
) -> tuple[npt.NDArray[np.float64], Tensor, tuple[int, int]]:
    """Return the library's maps (N, H, W) in [0, 1], the logits (N, classes), and the places (h, w) of the feature map.

    Args:
        tapped: The classifier; it is left as it was: its mode, its gradients' flags and its hooks.
        images: (N, 3, H, W), on the network's device.
        labels: (N,) int; None takes the predicted classes.
        method: A key of `CLASSES`.
        score_batch: Masked images in a forward pass of Score-CAM.
    """
    parts = [images]
    if method == "scorecam":  # it masks an image with every channel at once: (N, C, 3, H, W)
        parts = list(images.split(1))
    found = []
    with _at_rest(tapped), torch.enable_grad():
        arrange = tapped.arrange(images)
        for number, part in enumerate(parts):
            classes = None if labels is None else labels[number * len(part) : (number + 1) * len(part)].tolist()
            found.append(_maps(tapped, part, classes, arrange, method, score_batch))
    maps = np.concatenate([each for each, _, _ in found]).astype(np.float64)
    return maps, torch.cat([logits for _, logits, _ in found]), found[0][2]


def _maps(
    tapped: Tapped, images: Tensor, classes: list[int] | None, arrange: Arrange, method: str, score_batch: int
) -> tuple[npt.NDArray[np.float32], Tensor, tuple[int, int]]:
    module = library()
    target = module.utils.model_targets.ClassifierOutputTarget
    # A leaf of its own: the parameters are frozen, and the gradient needs a place from which it is wanted.
    images = images.detach().clone().requires_grad_()
    explainer = getattr(module, CLASSES[method])(tapped, [tapped.tap], arrange)
    explainer.batch_size = score_batch
    try:
        with _no_bars(module):
            maps = explainer(images, None if classes is None else [target(label) for label in classes])
        [features] = explainer.activations_and_grads.activations
        grid = (int(features.shape[2]), int(features.shape[3]))
        return maps, explainer.outputs.detach(), grid
    finally:
        explainer.activations_and_grads.release()


@contextmanager
def _at_rest(model: nn.Module) -> Iterator[None]:
    """Run a block with the model in eval mode and its parameters frozen; afterwards all is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    model.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, grad in wanted:
            parameter.requires_grad_(grad)


@contextmanager
def _no_bars(module: Any) -> Iterator[None]:
    """Keep Score-CAM from drawing a progress bar for each image; the whole evaluation has one of its own."""
    score_cam = module.score_cam
    tqdm, score_cam.tqdm = score_cam.tqdm, SimpleNamespace(tqdm=iter)
    try:
        yield
    finally:
        score_cam.tqdm = tqdm
