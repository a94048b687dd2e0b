"""Class activation maps (Zhou et al., CVPR 2016), normalised to score maps as in wsolevaluation (commit 96f4b88).

The map of class c is the sum over channels k of w[c, k] * f[k], with f the last feature map and w the weights of the
linear head behind the global average pooling. There is no bias and no ReLU.
"""

from __future__ import annotations

import copy

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pretrain.console import UserError


def class_activation_map(
    model: nn.Module, images: Tensor, labels: Tensor | None = None, size: tuple[int, int] | None = None
) -> npt.NDArray[np.float64]:
    """Return the score map of one class for each image.

    Args:
        model: A timm network, in eval mode, whose head is one linear layer after global average pooling.
        images: (N, 3, H, W) float, normalised as the network expects, on the network's device.
        labels: (N,) int, the class of each map; None takes the predicted class, which makes another metric.
        size: Height and width of the maps in pixels; None takes the images' own.

    Returns:
        (N, height, width) float64 in [0, 1]; a map that is constant or holds NaN is all zeros.

    Raises:
        UserError: The network has another kind of head.
    """
    features, logits = features_and_logits(model, images)
    chosen = logits.argmax(dim=1) if labels is None else labels
    height, width = size or (int(images.shape[2]), int(images.shape[3]))
    return score_maps(features, head_weight(model), chosen, (height, width))


def head_weight(model: nn.Module) -> Tensor:
    """Return the weight (classes, C) of the network's linear head.

    Raises:
        UserError: The network has no linear head that could give a class activation map.
    """
    return _head(model).weight.detach()


def _head(model: nn.Module) -> nn.Linear:
    find = getattr(model, "get_classifier", None)
    head = find() if callable(find) else None
    if not isinstance(head, nn.Linear) or not callable(getattr(model, "forward_features", None)):
        raise _no_cam(model, f"its head is {type(head).__name__}")
    return head


@torch.no_grad()
def features_and_logits(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last feature map (N, C, h, w) and the logits (N, classes), from one forward pass.

    Raises:
        UserError: The logits are not the linear head of the features' mean over positions, so that no class activation
            map exists, or the network refuses images of this size.
    """
    head = _head(model)
    try:
        features = model.forward_features(images)  # type: ignore[operator]
    except AssertionError as error:  # timm's way of refusing a size
        raise UserError(f"{type(model).__name__} refuses images of {tuple(images.shape[2:])}: {error}") from error
    if features.ndim != 4 or features.shape[1] != head.in_features:
        raise _no_cam(model, f"its features have the shape {tuple(features.shape)}")
    logits = model.forward_head(features)  # type: ignore[operator]
    if not _same(logits, nn.functional.linear(features.mean(dim=(2, 3)), head.weight), head.bias):
        raise _no_cam(model, "something stands between its features and its head")
    return features, logits


def _same(logits: Tensor, expected: Tensor, bias: Tensor | None) -> bool:
    """Whether logits less their bias are as expected, to 1 % of the largest; NaN and infinity are left aside."""
    found = logits if bias is None else logits - bias
    finite = torch.isfinite(found) & torch.isfinite(expected)
    scale = float(expected[finite].abs().amax()) if finite.any() else 0.0
    return torch.allclose(found[finite], expected[finite], rtol=0, atol=0.01 * scale + 1e-6)


def _no_cam(model: nn.Module, why: str) -> UserError:
    return UserError(
        f"{type(model).__name__} gives no class activation map: {why}; "
        "use a network with global average pooling and one linear layer behind its last feature map, such as resnet50"
    )


def score_maps(features: Tensor, weight: Tensor, labels: Tensor, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return the normalised class activation maps of given features, computed in float64 on the CPU.

    Args:
        features: (N, C, h, w).
        weight: (classes, C), the linear head.
        labels: (N,) int, the class of each map.
        size: Height and width of the maps in pixels.

    Returns:
        (N, height, width) float64 in [0, 1].
    """
    weight = weight.detach().cpu().double()[labels.cpu()]
    maps = torch.einsum("nchw,nc->nhw", features.detach().cpu().double(), weight).numpy()
    height, width = size
    return np.stack([normalise(cv2.resize(each, (width, height), interpolation=cv2.INTER_CUBIC)) for each in maps])


def normalise(cam: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a map (H, W) shifted and scaled to [0, 1]; one that is constant or holds NaN becomes all zeros."""
    if np.isnan(cam).any() or cam.min() == cam.max():
        return np.zeros(cam.shape, dtype=np.float64)
    shifted = np.asarray(cam - cam.min(), dtype=np.float64)
    return np.asarray(shifted / shifted.max(), dtype=np.float64)


def stride_one_last_stage(model: nn.Module) -> nn.Module:
    """Return a copy of a ResNet whose last stage keeps the resolution: 14x14 maps at 224 pixels instead of 7x7.

    The weights are the same; only the stride of `layer4` changes, without dilation, as in the reference.

    Raises:
        UserError: The network has no `layer4`, or one that reduces the resolution in another way than by convolutions
            and average pooling.
    """
    model = copy.deepcopy(model)
    stage = getattr(model, "layer4", None)
    if not isinstance(stage, nn.Module):
        raise UserError(f"{type(model).__name__} has no layer4 whose stride could be 1; keep its own strides (--stock)")
    for parent in list(stage.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                child.stride = (1, 1)
            elif isinstance(child, nn.AvgPool2d) and child.stride not in (
                1,
                (1, 1),
            ):  # the shortcut of a ResNet-D; timm has Identity there at stride 1
                setattr(parent, name, nn.Identity())
            elif not list(child.children()) and getattr(child, "stride", 1) not in (1, (1, 1)):
                raise UserError(f"layer4 holds a {type(child).__name__} with a stride; keep its own strides (--stock)")
    return model
