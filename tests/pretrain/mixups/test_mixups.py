"""Mixing methods on images that carry their own label: image i is the constant i."""

import pytest
import torch
from scipy import stats
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain import mixups
from pretrain.console import UserError
from pretrain.mixups.policy import sample_lam

N, HEIGHT, WIDTH = 5, 24, 40


def _coded_batch():
    images = torch.arange(N, dtype=torch.float32).view(N, 1, 1, 1).expand(N, 3, HEIGHT, WIDTH).clone()
    return images, F.one_hot(torch.arange(N), N).float()


@pytest.mark.parametrize("name", sorted(mixups.POLICIES))
@pytest.mark.parametrize("seed", range(8))
def test_label_weights_are_those_of_the_pixels(name, seed):
    images, targets = _coded_batch()
    before = images.clone()
    result = mixups.build(name)(images, targets, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(images, before)
    assert_close(result.soft_targets.sum(1), torch.ones(N))
    # The mean pixel is the sum of weight times code, whatever the shape of the mix.
    assert_close(result.images.mean((1, 2, 3)), result.soft_targets @ torch.arange(N, dtype=torch.float32))
    assert_close(result.mask * images + (1 - result.mask) * images[result.index], result.images)
    assert_close(result.mask.mean((1, 2, 3)), result.lam)


@pytest.mark.parametrize("name", sorted(mixups.POLICIES))
def test_same_generator_same_mix(name):
    images, targets = _coded_batch()
    first, second = (mixups.build(name)(images, targets, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.soft_targets, second.soft_targets)


def test_mixup_is_one_lambda_everywhere():
    images, targets = _coded_batch()
    result = mixups.build("mixup", alpha=0.5)(images, targets, generator=torch.Generator().manual_seed(0))
    assert len(result.mask.unique()) == 1


def test_cutmix_pastes_one_box():
    images, targets = _coded_batch()
    for seed in range(20):
        mask = mixups.build("cutmix")(images, targets, generator=torch.Generator().manual_seed(seed)).mask[0, 0]
        rows, columns = (mask == 0).any(1).sum(), (mask == 0).any(0).sum()
        assert rows * columns == (mask == 0).sum()


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_lambda_follows_the_beta_distribution(alpha):
    generator = torch.Generator().manual_seed(0)
    drawn = [sample_lam(alpha, generator) for _ in range(2000)]
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_unknown_name():
    with pytest.raises(UserError, match="did you mean 'cutmix'"):
        mixups.build("cutmx")
