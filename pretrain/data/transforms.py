"""Augmentation on uint8 images, with torchvision; normalisation happens on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, Literal

import torch
from PIL import Image
from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from timm.data.auto_augment import auto_augment_transform, posterize, rand_augment_transform
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torchvision.transforms import Compose, v2
from torchvision.transforms.v2.functional import resize, to_pil_image

from pretrain.data.seeds import seeded_libraries

INTERPOLATIONS = {"bilinear": v2.InterpolationMode.BILINEAR, "bicubic": v2.InterpolationMode.BICUBIC}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TransformSettings:
    """How images are cropped and augmented.

    Attributes:
        size: Side of the training images, pixels.
        test_size: Side of the test images; None: that of the training images.
        train_crop: "resized" is RandomResizedCrop; "padded" resizes to `size`, pads by `padding` and crops (CIFAR).
        scale: Range of the area that RandomResizedCrop keeps.
        padding: Pixels on each side for "padded".
        interpolation: Of every resizing.
        flip: Probability of a horizontal flip.
        auto_augment: timm's description of RandAugment or AutoAugment, such as "rand-m9-mstd0.5-inc1" (9/0.5 in Table
            12) or "original"; None: neither.
        color_jitter: Strength of brightness, contrast and saturation changes; 0: none.
        erasing: Probability that a box of an image is erased, by noise, once it is normalised (timm's "pixel" mode).
        test_crop_ratio: The test image's short side is resized to side / ratio, then the centre is cropped.
    """

    size: int = 224
    test_size: int | None = None
    train_crop: Literal["resized", "padded"] = "resized"
    scale: tuple[float, float] = (0.08, 1.0)
    padding: int = 4
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    flip: float = 0.5
    auto_augment: str | None = None
    color_jitter: float = 0.0
    erasing: float = 0.0
    test_crop_ratio: float = 0.875

    @model_validator(mode="after")
    def _fit_together(self) -> TransformSettings:
        if self.auto_augment is not None:
            AutoAugment(self.auto_augment, self.size, self.interpolation)
        for name in ("flip", "erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name):g}; it is a probability, from 0 to 1")
        return self


def train_transform(settings: TransformSettings) -> Callable[[Image.Image], Tensor]:
    """Return crop, horizontal flip and augmentation, PIL image to uint8 tensor (3, size, size)."""
    size, interpolation = settings.size, INTERPOLATIONS[settings.interpolation]
    if settings.train_crop == "resized":
        steps: list[Any] = [RandomResizedCrop(size, settings.scale, interpolation)]
    else:
        steps = [PaddedCrop(size, settings.padding, interpolation)]
    steps.append(partial(_flipped, probability=settings.flip))
    if settings.auto_augment is not None:
        steps.append(AutoAugment(settings.auto_augment, size, settings.interpolation))
    if settings.color_jitter:
        steps.append(v2.ColorJitter(*[settings.color_jitter] * 3))
    return Compose(steps)  # a loop; v2's is a module, whose call takes longer than a small image's crop


def eval_transform(settings: TransformSettings) -> v2.Transform:
    """Return resize and centre crop, PIL image to uint8 tensor (3, side, side); the side is that of the test images."""
    return v2.Compose([_to_tensor, *eval_crop(settings)])


def eval_crop(settings: TransformSettings) -> list[v2.Transform]:
    """Return resize and centre crop of uint8 images (..., 3, H, W), one after the other."""
    side = settings.test_size or settings.size
    resized = v2.Resize(round(side / settings.test_crop_ratio), INTERPOLATIONS[settings.interpolation], antialias=True)
    return [resized, v2.CenterCrop(side)]


class RandomResizedCrop:
    """torchvision's, draws and bytes alike, that takes from a PIL image the box alone: fewer bytes are moved.

    Args:
        size: Side of the result, pixels.
        scale: Range of the share of the area that is kept.
        interpolation: Of the resizing.
    """

    def __init__(self, size: int, scale: tuple[float, float], interpolation: v2.InterpolationMode) -> None:
        self.size, self.interpolation = size, interpolation
        self.draw = v2.RandomResizedCrop(size, scale)

    def __call__(self, image: Image.Image) -> Tensor:
        """Return a uint8 tensor (3, size, size)."""
        top, left, height, width = self.draw.get_params(image, self.draw.scale, self.draw.ratio)
        box = _to_tensor(image.crop((left, top, left + width, top + height)))
        return resize(box, [self.size, self.size], self.interpolation, antialias=True)


class PaddedCrop:
    """torchvision's Resize to a square and RandomCrop with black padding, draws and bytes alike, for less.

    Args:
        size: Side of the square and of the result, pixels.
        padding: On each side, pixels.
        interpolation: Of the resizing.
    """

    def __init__(self, size: int, padding: int, interpolation: v2.InterpolationMode) -> None:
        self.size, self.padding, self.interpolation = size, padding, interpolation

    def __call__(self, image: Image.Image) -> Tensor:
        """Return a uint8 tensor (3, size, size)."""
        if image.size != (self.size, self.size):
            image = to_pil_image(resize(_to_tensor(image), [self.size, self.size], self.interpolation, antialias=True))
        if self.padding:
            top, left = (int(torch.randint(2 * self.padding + 1, ())) - self.padding for _ in range(2))
            image = image.crop((left, top, left + self.size, top + self.size))  # black where there is no image
        return _to_tensor(image)


def _to_tensor(image: Image.Image) -> Tensor:
    """Return what `pil_to_tensor` does of an RGB image, in half the time of a small one."""
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.view(image.height, image.width, 3).permute(2, 0, 1)


def _flipped(image: Tensor, probability: float) -> Tensor:
    return image.flip(-1) if torch.rand(1) < probability else image


class AutoAugment:
    """timm's RandAugment and AutoAugment, uint8 tensor (3, H, W) to the same; all draws follow from torch's generator.

    Args:
        description: timm's, see `timm.data.auto_augment`.
        size: Side of the images; the longest shift is 0.45 of it, as in timm's loader.
        interpolation: Of rotations and shears.

    Raises:
        ValueError: timm does not know such a description.
    """

    def __init__(self, description: str, size: int, interpolation: str) -> None:
        hints = {
            "translate_const": int(0.45 * size),
            "img_mean": tuple(min(255, round(255 * mean)) for mean in IMAGENET_DEFAULT_MEAN),
            "interpolation": getattr(Image.Resampling, interpolation.upper()),
        }
        known = ("rand", "original", "originalr", "v0", "v0r", "3a")
        if description.split("-")[0] not in known:
            raise ValueError(
                f"auto_augment '{description}': timm knows descriptions that begin with {', '.join(known)}"
            )
        try:
            build = rand_augment_transform if description.startswith("rand") else auto_augment_transform
            self.augment = with_every_posterize(build(description, hints))
        except (AssertionError, ValueError, KeyError) as error:
            raise ValueError(
                f"auto_augment '{description}': timm cannot read it; write it like rand-m9-mstd0.5-inc1"
            ) from error

    def __call__(self, image: Tensor) -> Tensor:
        """Return the augmented image."""
        with seeded_libraries(int(torch.randint(2**63 - 1, ()))):  # timm's operations draw from random and numpy
            return _to_tensor(self.augment(to_pil_image(image)))


def with_every_posterize(augment: Any) -> Any:
    """Return timm's `augment`, able to posterize to no bits at all: its strongest level, which Pillow 13 refuses."""
    for operation in chain(*augment.policy) if hasattr(augment, "policy") else augment.ops:
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize
    return augment


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    return posterize(image, bits) if bits else Image.new(image.mode, image.size)


class Normalise(nn.Module):
    """uint8 images (N, 3, H, W) to float32, by a mean and a standard deviation on the [0, 1] scale.

    Args:
        mean, std: Of each channel; ImageNet's, unless a network was trained with others.
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self, mean: Sequence[float] = IMAGENET_DEFAULT_MEAN, std: Sequence[float] = IMAGENET_DEFAULT_STD
    ) -> None:
        super().__init__()
        self.register_buffer("scale", 1 / (255 * torch.tensor(std)).view(1, 3, 1, 1), persistent=False)
        offset = torch.tensor(mean) / torch.tensor(std)
        self.register_buffer("offset", offset.view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (images / 255 - mean) / std."""
        pixels = images.to(torch.float32, copy=True)
        if not pixels.is_contiguous(memory_format=torch.channels_last):
            return pixels.mul_(self.scale).sub_(self.offset)
        rows = pixels.permute(0, 2, 3, 1).flatten(2)  # a CPU is ten times as fast along rows of W * 3 as of 3
        scale, offset = (each.flatten().repeat(images.shape[-1]) for each in (self.scale, self.offset))
        return rows.mul_(scale).sub_(offset).unflatten(2, (-1, 3)).permute(0, 3, 1, 2)

    def inverse(self, images: Tensor) -> Tensor:
        """Return normalised images (..., 3, H, W) as they look, float in [0, 1]."""
        return ((images + self.offset) / self.scale / 255).clamp(0, 1)
