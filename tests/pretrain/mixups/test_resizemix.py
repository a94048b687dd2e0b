"""The patch against torchvision's and Pillow's resize, its scale against the uniform distribution."""

import numpy as np
import pytest
import torch
from coded import coded_batch
from PIL import Image
from scipy import stats
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as vision

from pretrain import mixups


def _box(mask):
    """Top, left, bottom, right of the zeros of a mask (H, W), which have to be a full box."""
    rows, columns = (mask == 0).any(1).nonzero().flatten(), (mask == 0).any(0).nonzero().flatten()
    top, bottom, left, right = (*(rows[i].item() for i in (0, -1)), *(columns[i].item() for i in (0, -1)))
    assert (mask == 0).sum() == (bottom + 1 - top) * (right + 1 - left)
    return top, left, bottom + 1, right + 1


@pytest.mark.parametrize("size", [(24, 40), (51, 20), (33, 33)])
@pytest.mark.parametrize("seed", range(3))
def test_patch_is_the_whole_partner_made_smaller(size, seed):
    images, targets = torch.randn(3, 3, *size), torch.eye(3)
    result = mixups.build("resizemix")(images, targets, generator=torch.Generator().manual_seed(seed))
    top, left, bottom, right = _box(result.mask[0, 0])
    patch = result.images[..., top:bottom, left:right]
    partners = images[result.index]
    assert_close(patch, vision.resize(partners, [bottom - top, right - left], antialias=True))
    by_pillow = Image.fromarray(partners[1, 2].numpy()).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
    assert_close(patch[1, 2], torch.from_numpy(np.array(by_pillow)), rtol=0, atol=1e-4)
    outside = result.mask.bool().expand_as(images)
    assert torch.equal(result.images[outside], images[outside])


@pytest.mark.parametrize(("n", "size"), [(5, (24, 40)), (1, (17, 31)), (3, (64, 9)), (2, (1, 1))])
@pytest.mark.parametrize("seed", range(5))
def test_labels_and_pixels(n, size, seed):
    images, targets = coded_batch(n, *size)
    before = images.clone()
    result = mixups.build("resizemix")(images, targets, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(images, before)
    assert_close(result.images.mean((1, 2, 3)), result.weights @ torch.arange(n, dtype=torch.float32))
    assert_close(result.mask.mean((1, 2, 3)), result.lam, rtol=0, atol=0)
    assert_close(result.soft_targets, result.weights)
    again = mixups.build("resizemix")(images, targets, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(result.images, again.images)
    assert torch.equal(result.soft_targets, again.soft_targets)


@pytest.mark.parametrize("bounds", [(0.1, 0.8), (0.3, 0.5)])
def test_scale_is_uniform_between_its_bounds(bounds):
    policy = mixups.build("resizemix", scale_min=bounds[0], scale_max=bounds[1])
    generator = torch.Generator().manual_seed(0)
    scales = [(1 - policy.sample(2, (32, 32), generator).lam) ** 0.5 for _ in range(2000)]
    assert stats.kstest(scales, stats.uniform(bounds[0], bounds[1] - bounds[0]).cdf).pvalue > 0.01


@pytest.mark.parametrize("alpha", [0.2, 4.0])
def test_alpha_is_that_of_a_beta_distribution_with_uniform_draws_in_place_of_those_outside(alpha):
    # 0.73 and 0.04 of the Beta distribution's mass are outside 0.1 .. 0.8.
    beta = stats.beta(alpha, alpha)
    inside = beta.cdf(0.8) - beta.cdf(0.1)
    policy = mixups.build("resizemix", alpha=alpha)
    generator = torch.Generator().manual_seed(1)
    scales = [(1 - policy.sample(2, (32, 32), generator).lam) ** 0.5 for _ in range(4000)]

    def cdf(scale):
        return beta.cdf(scale) - beta.cdf(0.1) + (1 - inside) * (scale - 0.1) / 0.7

    assert stats.kstest(scales, cdf).pvalue > 0.01


def test_corner_is_uniform_over_all_places_inside():
    policy, size = mixups.build("resizemix"), (10, 13)
    images, targets = coded_batch(1, *size)
    generator = torch.Generator().manual_seed(0)
    counts = np.zeros((6, 8))  # a patch of 5 x 6 leaves 6 x 8 places
    for _ in range(2000):
        draw = policy.sample(1, size, generator, lam=1 - 0.5**2)
        top, left, bottom, right = _box(policy.apply(images, targets, draw).mask[0, 0])
        assert (bottom - top, right - left) == (5, 6)
        counts[top, left] += 1
    assert stats.chisquare(counts.flatten()).pvalue > 0.01


@pytest.mark.parametrize("lam", [0.0, 0.19, 0.75, 0.9, 1.0])
def test_lambda_given_is_lambda_kept(lam):
    size = (100, 60)
    images, targets = coded_batch(4, *size)
    policy = mixups.build("resizemix")
    draw = policy.sample(4, size, lam=lam, index=torch.tensor([1, 0, 3, 2]))
    result = policy.apply(images, targets, draw)
    sides = round((1 - lam) ** 0.5 * size[0]), round((1 - lam) ** 0.5 * size[1])
    assert_close(result.lam, torch.full((4,), 1 - sides[0] * sides[1] / 6000))
    assert result.lam[0] == pytest.approx(lam, abs=0.01)
    if lam in (0, 1):
        assert torch.equal(result.images, images if lam else images[draw.index])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_images_keep_float32_labels(dtype):
    images, targets = torch.randn(3, 3, 24, 40), torch.eye(3)
    generator = torch.Generator().manual_seed(0)
    policy = mixups.build("resizemix")
    draw = policy.sample(3, (24, 40), generator)
    with torch.autocast("cpu", torch.bfloat16):
        half = policy.apply(images.to(dtype), targets, draw)
    assert half.images.dtype == dtype
    assert half.lam.dtype == half.mask.dtype == half.soft_targets.dtype == torch.float32
    assert_close(half.images.float(), policy.apply(images, targets, draw).images, rtol=0, atol=0.03)


def test_runs_without_reading_back_from_the_device():
    # A meta tensor has no values to read: whatever made the host wait for a GPU would raise here.
    policy = mixups.build("resizemix")
    images, targets = torch.empty(4, 3, 9, 13, device="meta"), torch.empty(4, 7, device="meta")
    assert policy.apply(images, targets, policy.sample(4, (9, 13))).images.shape == (4, 3, 9, 13)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0}, "resizemix: alpha has to be positive, not 0"),
        ({"scale_min": 0}, "resizemix: .*not scale_min 0 and scale_max 0.8"),
        ({"scale_max": 1.2}, "resizemix: .*not scale_min 0.1 and scale_max 1.2"),
        ({"scale_min": 0.9}, "resizemix: .*not scale_min 0.9 and scale_max 0.8"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        mixups.build("resizemix", **settings)
