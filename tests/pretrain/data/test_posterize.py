"""RandAugment's posterize on a Pillow that refuses to keep none of the bits (13 and later)."""

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.data.transforms import AutoAugment, posterize


@pytest.mark.parametrize("bits", range(9))
def test_posterize_keeps_the_upper_bits(bits):
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    kept = np.asarray(posterize(Image.fromarray(pixels), bits))
    assert np.array_equal(kept, pixels & (0xFF << (8 - bits) & 0xFF))


@pytest.mark.parametrize("description", ["rand-m10-n1-inc1", "v0"])
def test_no_draw_of_the_magnitude_stops_a_run(description):
    """At magnitude 10 the growing series keeps no bit at all; DeiT's 9/0.5 gets there now and then."""
    augment, image = AutoAugment(description, 8, "bicubic"), torch.full((3, 8, 8), 200, dtype=torch.uint8)
    names = [operation.name for operation in augment.augment.ops] if description.startswith("rand") else []
    assert description == "v0" or "PosterizeIncreasing" in names
    torch.manual_seed(0)
    assert all(augment(image).shape == (3, 8, 8) for _ in range(300))
