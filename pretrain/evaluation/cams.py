"""Grad-CAM by the grad-cam library (Gildenblat and others, github.com/jacobgil/pytorch-grad-cam).

The library weighs each channel by the mean of the class score's gradient, sums and cuts at zero (Selvaraju et al., ICCV
2017), resizes to the image bilinearly and stretches each map to [0, 1].
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.backbones import stage_count, stage_module
from pretrain.console import UserError


def grad_cams(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return where each image speaks for a class, on the feature map of the last stage.

    Args:
        model: A network of `build_backbone` whose last stage is a map: a CNN, or Swin. It is left as it is.
        images: (N, 3, H, W) float, normalised, on the model's device.
        classes: (N,) int64, a class for each image.

    Returns:
        (N, H, W) float32 in [0, 1] on the CPU; all zero where nothing speaks for the class.

    Raises:
        UserError: The library is not installed, or the last stage gives tokens, as in DeiT.
    """
    library = _library()
    network = copy.deepcopy(model)  # the library switches to eval mode and leaves gradients behind
    layer = stage_module(network, stage_count(network))
    targets = [library.utils.model_targets.ClassifierOutputTarget(label) for label in classes.tolist()]
    explainer = library.GradCAM(network, [layer], _to_channels_first(network))
    try:
        with torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
            return torch.from_numpy(explainer(images.detach().clone(), targets))
    finally:
        explainer.activations_and_grads.release()


def _library() -> Any:
    try:
        return importlib.import_module("pytorch_grad_cam")
    except ImportError as error:
        raise UserError(
            f"Grad-CAM needs the grad-cam library ({error}); install it: pip install 'mixup-transfer[cam]'"
        ) from error


def _to_channels_first(network: Any) -> Callable[[Tensor], Tensor]:
    """Return what brings the output of a stage to (N, C, h, w)."""
    last = getattr(network, "output_fmt", "NCHW") == "NHWC"

    def arrange(features: Tensor) -> Tensor:
        if features.ndim != 4:
            raise UserError(
                f"{type(network).__name__} gives its last stage as tokens {tuple(features.shape)}, of which the class "
                "token alone is read: Grad-CAM sees nothing there; leave this picture out"
            )
        return features.permute(0, 3, 1, 2) if last else features

    return arrange
