"""The nine operations of AugMix's chains, with the strengths of the official code (google-research/augmix).

Left out are its colour, contrast, brightness and sharpness, which overlap with the corruptions of CIFAR-C and
ImageNet-C that the method is judged by. An operation maps an image (3, H, W) uint8 and a signed level to such an image.
Levels are tenths of an operation's range; the sign is the direction of those that have one. What leaves the image is
lost, and what comes in is black.
"""

from __future__ import annotations

from collections.abc import Callable
from math import atan, degrees

from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

Operation = Callable[[Tensor, float], Tensor]


def autocontrast(image: Tensor, level: float) -> Tensor:
    """Stretch each channel to 0 .. 255."""
    return tv.autocontrast(image)


def equalize(image: Tensor, level: float) -> Tensor:
    """Equalise each channel's histogram."""
    return tv.equalize(image)


def posterize(image: Tensor, level: float) -> Tensor:
    """Keep the upper four bits of each pixel, and fewer from level 2.5 on."""
    return tv.posterize(image, 4 - int(abs(level) * 4 / 10))


def solarize(image: Tensor, level: float) -> Tensor:
    """Invert the pixels that are brighter than a threshold, which falls from 256."""
    threshold = 256 - int(abs(level) * 256 / 10)
    return tv.solarize(image, threshold) if threshold < 256 else image


def rotate(image: Tensor, level: float) -> Tensor:
    """Turn by up to 30 degrees, whole ones."""
    return tv.rotate(image, float(int(level * 30 / 10)), interpolation=InterpolationMode.BILINEAR)


def shear_x(image: Tensor, level: float) -> Tensor:
    """Move each row by its distance from the top, times up to 0.3."""
    return _shear(image, [degrees(atan(level * 0.3 / 10)), 0.0])


def shear_y(image: Tensor, level: float) -> Tensor:
    """Move each column by its distance from the left, times up to 0.3."""
    return _shear(image, [0.0, degrees(atan(level * 0.3 / 10))])


def _shear(image: Tensor, angles: list[float]) -> Tensor:
    return tv.affine(
        image,
        angle=0.0,
        translate=[0, 0],
        scale=1.0,
        shear=angles,
        interpolation=InterpolationMode.BILINEAR,
        center=[0.0, 0.0],
    )


def translate_x(image: Tensor, level: float) -> Tensor:
    """Move by up to a third of the width, whole pixels."""
    height, width = image.shape[1:]
    return tv.crop(image, 0, int(level * (width / 3) / 10), height, width)


def translate_y(image: Tensor, level: float) -> Tensor:
    """Move by up to a third of the height, whole pixels."""
    height, width = image.shape[1:]
    return tv.crop(image, int(level * (height / 3) / 10), 0, height, width)


OPS: dict[str, Operation] = {
    operation.__name__: operation
    for operation in (
        autocontrast,
        equalize,
        posterize,
        rotate,
        solarize,
        shear_x,
        shear_y,
        translate_x,
        translate_y,
    )
}
