"""Fine-grained static saliency (Montabone & Soto, 2010), integer for integer as OpenCV computes it, without OpenCV."""

import torch
from torch import Tensor
from torch.nn import functional as F

HALF_SIDES = (12, 24, 28, 48, 56, 112)  # of the square surroundings that a pixel is compared with


def fine_grained_saliency(pixels: Tensor) -> Tensor:
    """Return how much brighter or darker than its surroundings each pixel of an image is.

    The image turns grey and is smoothed twice; its positive and its negative differences from the means of six
    surroundings (centre-surround "on" and "off" cells) add up apart, and each sum is scaled to its largest. This is
    `StaticSaliencyFineGrained` of opencv_contrib's saliency module on the same image in BGR; OpenCV 5 returns the map
    divided by 255. Its own integral image is float32, exact up to 256 x 256 pixels: beyond, maps may differ by one.

    Args:
        pixels: (3, H, W) RGB in 0 .. 255, of any dtype; fractions are rounded. On any device: nothing is read back.

    Returns:
        (H, W) int32, 0 .. 255; more where a pixel is near both peaks, which OpenCV's cast to a byte leaves undefined.
    """
    grey = _smooth(_smooth(_grey(pixels)))
    difference = grey - _surrounding_means(grey)
    return _scaled_sum(difference) + _scaled_sum(-difference)


def _grey(pixels: Tensor) -> Tensor:
    """Return the luma (H, W) int32 of Rec. 601, in OpenCV's fixed point of 15 bits."""
    red, green, blue = pixels.round().to(torch.int32)
    return (9798 * red + 19235 * green + 3735 * blue + 2**14) >> 15


def _smooth(grey: Tensor) -> Tensor:
    """Apply the binomial 3 x 3 kernel, mirrored about the border pixels, rounded half up."""
    return (_binomial(_binomial(grey).T).T + 8) >> 4


def _binomial(rows: Tensor) -> Tensor:
    """Return the sum of each row twice and of its two neighbours once."""
    last = len(rows) - 1
    steps = torch.arange(-1, last + 2, device=rows.device).abs()
    mirrored = rows[(last - (last - steps).abs()).clamp(min=0)]
    return mirrored[:-2] + 2 * mirrored[1:-1] + mirrored[2:]


def _surrounding_means(grey: Tensor) -> Tensor:
    """Return (6, H, W) float32: the mean of each pixel's surroundings without itself, clipped to the image."""
    height, width = grey.shape
    integral = F.pad(grey, (1, 0, 1, 0)).cumsum(0, dtype=torch.int32).cumsum(1, dtype=torch.int32)
    top, bottom = _bounds(height, grey.device)
    left, right = _bounds(width, grey.device)
    strips = integral[bottom] - integral[top]
    at_left, at_right = (strips.gather(2, edge[:, None].expand(-1, height, -1)) for edge in (left, right))
    areas = (bottom - top)[:, :, None] * (right - left)[:, None]
    return (at_right - at_left - grey).to(torch.float32) / (areas - 1).clamp(min=1)


def _bounds(length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the first pixel and one past the last of each pixel's surroundings: twice (6, length) int64."""
    start = torch.arange(1, length + 1)
    half = torch.tensor(HALF_SIDES)[:, None]
    first, end = (start - half).clamp(min=0), (start + half).clamp(max=length)
    return first.to(device, non_blocking=True), end.to(device, non_blocking=True)


def _scaled_sum(difference: Tensor) -> Tensor:
    """Sum the whole part of what is positive over the surroundings, and scale the sum to 0 .. 255: (H, W) int32."""
    total = difference.clamp(min=0).to(torch.int32).sum(0)
    share = total.to(torch.float32) / total.max().clamp(min=1)
    # In float64 the product is exact, so that the cast truncates what OpenCV truncates.
    return (255 * share.to(torch.float64)).to(torch.int32)
