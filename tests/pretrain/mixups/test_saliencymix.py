"""The saliency against maps that OpenCV computed; the box against the peak of the source's map."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain import mixups
from pretrain.mixups.fine_grained import fine_grained_saliency

CASES = Path(__file__).parents[2] / "cases" / "saliency" / "opencv.npz"
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
PICTURES = ["astronaut", "chelsea", "coffee", "noise", "rectangles", "constant"]


def _case(name):
    """An RGB image (3, H, W) uint8 and OpenCV's map (H, W)."""
    with np.load(CASES) as cases:
        return torch.from_numpy(cases[f"{name}.image"]).permute(2, 0, 1), torch.from_numpy(cases[f"{name}.map"])


def _batch(size, n=3):
    """Images that carry their own label: the constant i, in pixels of 0 .. 255, normalised."""
    pixels = torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 3, *size)
    return (pixels / 255 - MEAN) / STD, F.one_hot(torch.arange(n), n).float()


def _pixels(images):
    return (images * STD + MEAN) * 255


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_saliency_is_that_of_opencv(name, dtype):
    image, expected = _case(name)
    assert_close(fine_grained_saliency(image.to(dtype)), expected.to(torch.int32), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee", "rectangles"])
@pytest.mark.parametrize("lam", [0.4, 0.75, 0.97])
def test_box_is_centred_on_the_peak_of_the_source(name, lam):
    source, saliency = _case(name)
    height, width = saliency.shape
    images, targets = _batch((height, width))
    images[2] = (source / 255 - MEAN) / STD  # the partner of image 0
    policy = mixups.build("saliencymix")
    result = policy.apply(images, targets, policy.sample(3, (height, width), lam=lam, index=torch.tensor([2, 0, 1])))

    row, column = np.unravel_index(saliency.numpy().argmax(), saliency.shape)  # the first, as the authors take it
    sides = round((1 - lam) ** 0.5 * height), round((1 - lam) ** 0.5 * width)
    expected = torch.ones(height, width)
    top, left = row - sides[0] // 2, column - sides[1] // 2
    expected[max(top, 0) : top + sides[0], max(left, 0) : left + sides[1]] = 0
    assert expected[row, column] == 0
    assert torch.equal(result.mask, expected.expand(3, 1, -1, -1))
    assert_close(result.lam, expected.mean().expand(3))
    assert torch.equal(result.images[0], torch.where(expected == 0, images[2], images[0]))


def test_normalisation_is_a_setting():
    source, saliency = _case("astronaut")
    policy = mixups.build("saliencymix", mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4))
    image = (source / 255 - torch.tensor(policy.mean).view(3, 1, 1)) / torch.tensor(policy.std).view(3, 1, 1)
    result = policy.apply(
        image[None], torch.ones(1, 1), policy.sample(1, (32, 32), lam=1 - 1 / 32**2, index=torch.zeros(1).long())
    )
    assert (result.mask == 0).sum() == 1  # a box of one pixel: the peak itself
    assert (result.mask == 0).flatten().nonzero().item() == saliency.flatten().long().argmax()


@pytest.mark.parametrize(("n", "size"), [(1, (24, 40)), (3, (33, 17)), (4, (1, 1)), (2, (1, 6))])
@pytest.mark.parametrize("seed", range(5))
def test_label_weights_are_those_of_the_pixels(n, size, seed):
    images, targets = _batch(size, n)
    images[:, :, -1, -1] += 1e-2  # a peak for the saliency
    before = images.clone()
    result = mixups.build("saliencymix")(images, targets, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(images, before)
    codes = _pixels(images).mean((1, 2, 3))
    assert_close(_pixels(result.images).mean((1, 2, 3)), result.weights @ codes, rtol=0, atol=5e-3)
    assert_close(result.soft_targets.sum(1), torch.ones(n))
    again = mixups.build("saliencymix")(images, targets, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(result.images, again.images)
    assert torch.equal(result.soft_targets, again.soft_targets)


def test_lambda_of_one_is_the_identity():
    images, targets = _batch((9, 14))
    policy = mixups.build("saliencymix")
    result = policy.apply(images, targets, policy.sample(3, (9, 14), lam=1.0))
    assert torch.equal(result.images, images)
    assert torch.equal(result.soft_targets, targets)


def test_bfloat16_images_keep_float32_labels():
    images, targets = _batch((12, 20))
    result = mixups.build("saliencymix")(images.to(torch.bfloat16), targets)
    assert result.images.dtype == torch.bfloat16
    assert result.lam.dtype == result.mask.dtype == result.soft_targets.dtype == torch.float32


def test_peak_is_not_read_back():
    # A meta tensor has no values to read: whatever made the host wait for a GPU would raise here.
    policy = mixups.build("saliencymix")
    images, targets = torch.empty(4, 3, 9, 13, device="meta"), torch.empty(4, 7, device="meta")
    assert policy.apply(images, targets, policy.sample(4, (9, 13))).images.shape == (4, 3, 9, 13)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0}, "saliencymix: alpha has to be positive, not 0"),
        ({"mean": (0.5,)}, "saliencymix: mean has to be three numbers"),
        ({"std": (0.2, 0.0, 0.2)}, "saliencymix: std has to be positive"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        mixups.build("saliencymix", **settings)
