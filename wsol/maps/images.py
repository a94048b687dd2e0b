"""Images as a classifier wants them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pretrain.backbones import BackboneCard
from pretrain.console import UserError


def read_rgb(path: Path) -> Image.Image:
    """Return the whole image as RGB.

    Raises:
        UserError: It is truncated, damaged, or no image.
    """
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a whole image ({error}); fetch it again") from error


def prepare(image: Image.Image, size: int, card: BackboneCard) -> Tensor:
    """Resize to size x size, the aspect ratio not kept, and normalise as the card says.

    Returns:
        (3, size, size) float32.
    """
    pixels = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    mean, std = (np.array(values, dtype=np.float32) for values in (card.mean, card.std))
    channels = (pixels - mean) / std
    return torch.from_numpy(np.ascontiguousarray(channels.transpose(2, 0, 1)))
