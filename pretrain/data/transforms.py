"""Augmentation on uint8 images, with torchvision; normalisation happens on the device."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torchvision.transforms import v2


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TransformSettings:
    """How images are cropped.

    Attributes:
        size: Side of the training and of the test images, pixels.
        train_crop: "resized" is RandomResizedCrop; "padded" resizes to `size`, pads by `padding` and crops (CIFAR).
        scale: Range of the area that RandomResizedCrop keeps.
        padding: Pixels on each side for "padded".
        test_crop_ratio: The test image's short side is resized to size / ratio, then the centre is cropped.
    """

    size: int = 224
    train_crop: Literal["resized", "padded"] = "resized"
    scale: tuple[float, float] = (0.08, 1.0)
    padding: int = 4
    test_crop_ratio: float = 0.875


def train_transform(settings: TransformSettings) -> v2.Transform:
    """Return crop and horizontal flip, PIL image to uint8 tensor (3, size, size)."""
    if settings.train_crop == "resized":
        crop: list[v2.Transform] = [v2.RandomResizedCrop(settings.size, scale=settings.scale, antialias=True)]
    else:
        crop = [v2.Resize((settings.size, settings.size)), v2.RandomCrop(settings.size, padding=settings.padding)]
    return v2.Compose([v2.PILToTensor(), *crop, v2.RandomHorizontalFlip()])


def eval_transform(settings: TransformSettings) -> v2.Transform:
    """Return resize and centre crop, PIL image to uint8 tensor (3, size, size)."""
    short_side = round(settings.size / settings.test_crop_ratio)
    return v2.Compose([v2.PILToTensor(), v2.Resize(short_side, antialias=True), v2.CenterCrop(settings.size)])


class Normalise(nn.Module):
    """uint8 images (N, 3, H, W) to float32, by ImageNet's mean and standard deviation on the [0, 1] scale."""

    scale: Tensor
    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", 1 / (255 * torch.tensor(IMAGENET_DEFAULT_STD)).view(1, 3, 1, 1), persistent=False)
        offset = torch.tensor(IMAGENET_DEFAULT_MEAN) / torch.tensor(IMAGENET_DEFAULT_STD)
        self.register_buffer("offset", offset.view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (images / 255 - mean) / std."""
        return images.float() * self.scale - self.offset

    def inverse(self, images: Tensor) -> Tensor:
        """Return normalised images (..., 3, H, W) as they look, float in [0, 1]."""
        return ((images + self.offset) / self.scale / 255).clamp(0, 1)
