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
from wsol.maps.pooling import Averages

OUTPUT_STRIDES = {"16": ("layer4",), "8": ("layer3", "layer4"), "stock": ()}  # the stages that keep the resolution


def class_activation_map(
    model: nn.Module, images: Tensor, labels: Tensor | None = None, size: tuple[int, int] | None = None
) -> npt.NDArray[np.float64]:
    """Return the score map of one class for each image.

    Args:
        model: A classifier in eval mode, such as a ResNet of timm or torchvision, whose head is one linear layer
            behind global average pooling.
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
    if callable(find):  # timm's networks
        head = find()
    else:
        head = next((module for module in reversed([*model.modules()]) if isinstance(module, nn.Linear)), None)
    if not isinstance(head, nn.Linear):
        raise _no_cam(model, "its head is not a linear layer")
    return head


@torch.no_grad()
def features_and_logits(model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the last feature map (N, C, h, w) and the logits (N, classes), from one forward pass.

    Raises:
        UserError: The logits are not the linear head of the features' mean over positions, so that no class activation
            map exists, or the network refuses images of this size.
    """
    head = _head(model)
    with Averages() as averages:
        logits = run(model, images)
    features = averages.last
    if features is None:
        height, width = images.shape[2:]
        raise _no_cam(
            model,
            f"of images of {height}x{width} it averages no feature map of more than one place (a larger "
            "--input-size may help)",
        )
    if features.shape[1] != head.in_features:
        raise _no_cam(
            model, f"its last feature map has {features.shape[1]} channels, its head takes {head.in_features}"
        )
    if not _same(logits, nn.functional.linear(features.mean(dim=(2, 3)), head.weight), head.bias):
        raise _no_cam(model, "something stands between its features and its head")
    return features, logits


def run(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits (N, classes) of images.

    Raises:
        UserError: The network refuses images of this size.
    """
    try:
        logits: Tensor = model(images)
    except AssertionError as error:  # the way of timm and torchvision to refuse a size
        height, width = images.shape[2:]
        raise UserError(
            f"{type(model).__name__} refuses images of {height}x{width} ({error}); set --input-size to what it takes"
        ) from error
    return logits


def _same(logits: Tensor, expected: Tensor, bias: Tensor | None) -> bool:
    """Whether logits less their bias are as expected, to 1 % of the largest; NaN and infinity are left aside."""
    found = logits if bias is None else logits - bias
    finite = torch.isfinite(found) & torch.isfinite(expected)
    scale = float(expected[finite].abs().amax()) if finite.any() else 0.0
    return torch.allclose(found[finite], expected[finite], rtol=0, atol=0.01 * scale + 1e-6)


def _no_cam(model: nn.Module, why: str) -> UserError:
    return UserError(
        f"{type(model).__name__} gives no class activation map: {why}; take another method (--cam gradcam), or a "
        "network with one linear layer behind the average of its last feature map, such as resnet50"
    )


def class_maps(features: Tensor, weight: Tensor, labels: Tensor) -> npt.NDArray[np.float64]:
    """Return the class activation maps (N, h, w) of given features, summed in float64; arguments as of `score_maps`."""
    features, weight = (tensor.detach().to("cpu" if tensor.is_mps else tensor.device) for tensor in (features, weight))
    chosen = weight.double()[labels.to(weight.device)]
    maps: npt.NDArray[np.float64] = torch.einsum("nchw,nc->nhw", features.double(), chosen).cpu().numpy()
    return maps


def score_maps(features: Tensor, weight: Tensor, labels: Tensor, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return the normalised class activation maps of given features.

    Args:
        features: (N, C, h, w).
        weight: (classes, C), the linear head.
        labels: (N,) int, the class of each map.
        size: Height and width of the maps in pixels.

    Returns:
        (N, height, width) float64 in [0, 1].
    """
    return np.stack([to_score_map(each, size) for each in class_maps(features, weight, labels)])


def to_score_map(raw: npt.NDArray[np.float64], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return a map (h, w) resized by cubic interpolation in float64, and normalised.

    Args:
        raw: (h, w) float64; one that has the size already is not resized.
        size: Height and width in pixels.

    Returns:
        (height, width) float64 in [0, 1].
    """
    height, width = size
    return normalise(np.asarray(cv2.resize(raw, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.float64))


def normalise(cam: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return a map (H, W) shifted and scaled to [0, 1]; one that is constant or holds NaN becomes all zeros."""
    if np.isnan(cam).any() or cam.min() == cam.max():
        return np.zeros(cam.shape, dtype=np.float64)
    shifted = np.asarray(cam - cam.min(), dtype=np.float64)
    return np.asarray(shifted / shifted.max(), dtype=np.float64)


def with_output_stride(model: nn.Module, output_stride: str) -> nn.Module:
    """Return a copy of a ResNet of timm or torchvision whose last stages keep the resolution.

    The weights are the same; only strides change, without dilation, as in the reference's wsol/resnet.py.

    Args:
        model: A network with the stages `layer3` and `layer4`, such as a ResNet or a ResNeXt.
        output_stride: "16": the last stage runs at stride 1, so that maps of 224 pixels have 14x14 places instead of
            7x7, the reference's default; "8": the last but one too, 28x28, its large_feature_map; "stock": all is left
            as it is, and the model itself is returned. The names are those of networks whose stock stride is 32.

    Raises:
        UserError: Another word, or a network without these stages, or with one that reduces the resolution in another
            way than by convolutions and average pooling.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise UserError(f"unknown output stride '{output_stride}'; known: {', '.join(OUTPUT_STRIDES)}")
    names = OUTPUT_STRIDES[output_stride]
    if not names:
        return model
    model = copy.deepcopy(model)
    for name in names:
        stage = getattr(model, name, None)
        if not isinstance(stage, nn.Module):
            raise UserError(
                f"{type(model).__name__} has no {name} whose stride could be 1; keep its own (--output-stride stock)"
            )
        _set_stride_one(name, stage)
    return model


def _set_stride_one(name: str, stage: nn.Module) -> None:
    for parent in list(stage.modules()):
        for child_name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                child.stride = (1, 1)
            elif isinstance(child, nn.AvgPool2d) and child.stride not in (1, (1, 1)):
                # The shortcut of a ResNet-D; timm has Identity there at stride 1.
                setattr(parent, child_name, nn.Identity())
            elif not list(child.children()) and getattr(child, "stride", 1) not in (1, (1, 1)):
                raise UserError(
                    f"{name} holds a {type(child).__name__} with a stride; keep its own (--output-stride stock)"
                )
