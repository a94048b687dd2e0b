"""MixUp and CutMix against torchvision, timm and kornia, each given the same draws."""

from unittest.mock import patch

import pytest
import timm.data.mixup as timm_mixup
import torch
from kornia import augmentation
from timm.loss import SoftTargetCrossEntropy
from torch.nn import functional as F
from torch.testing import assert_close
from torchvision.transforms import v2

from pretrain.automix.losses import LossSettings, build_criterion
from pretrain.mixups.cutmix import BoxDraw, CutMix, box, outside_box
from pretrain.mixups.mixup import MixUp
from pretrain.mixups.policy import Draw, paste
from pretrain.mixups.random_choice import RandomChoice

N, CLASSES = 6, 7
ROLLED = torch.arange(N) - 1  # torchvision's partners
FLIPPED = torch.arange(N - 1, -1, -1)  # timm's


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(N, 3, 24, 40, generator=generator)
    return images, torch.randint(CLASSES, (N,), generator=generator)


def _one_hot(labels):
    return F.one_hot(labels, CLASSES).float()


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.5, 1.0])
def test_mixup_is_torchvisions(batch, lam):
    images, labels = batch
    theirs = v2.MixUp(num_classes=CLASSES)
    params = {"labels": labels, "batch_size": N, "lam": lam}
    ours = MixUp().apply(images, _one_hot(labels), Draw(lam, ROLLED))
    assert_close(ours.images, theirs.transform(images, params))
    assert_close(ours.soft_targets, theirs.transform(labels, params))


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_is_torchvisions_with_its_box(batch, seed):
    images, labels = batch
    torch.manual_seed(seed)
    theirs = v2.CutMix(num_classes=CLASSES)
    params = {"labels": labels, "batch_size": N, **theirs.make_params([images])}
    left, top, right, bottom = params["box"]
    ours = paste(images, _one_hot(labels), ROLLED, outside_box((24, 40), (top, left, bottom, right)))
    assert torch.equal(ours.images, theirs.transform(images, params))
    assert_close(ours.soft_targets, theirs.transform(labels, params))


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_draws_torchvisions_box(seed):
    """Given lambda and centre, where a half side is a whole number of pixels and nobody has to round."""
    lam = 1 - 0.5**2  # half of both sides: 12 of 24 and 20 of 40 pixels
    torch.manual_seed(seed)
    theirs = v2.CutMix(num_classes=CLASSES)
    with patch.object(theirs._dist, "sample", lambda sample_shape: torch.tensor([lam])):
        state = torch.get_rng_state()
        left, top, right, bottom = theirs.make_params([torch.zeros(N, 3, 24, 40)])["box"]
    torch.set_rng_state(state)
    x, y = torch.randint(40, (1,)).item(), torch.randint(24, (1,)).item()
    assert box((24, 40), lam, (y / 24, x / 40)) == (top, left, bottom, right)


@pytest.mark.parametrize(("lam", "cut"), [(0.3, False), (0.64, True)])
def test_mixup_and_cutmix_are_timms(batch, lam, cut):
    images, labels = batch
    theirs = timm_mixup.Mixup(0.8, 1.0, label_smoothing=0.0, num_classes=CLASSES)
    corners = (2, 18, 5, 33)  # top, bottom, left, right
    area = 1 - 16 * 28 / (24 * 40)
    with (
        patch.object(theirs, "_params_per_batch", lambda: (lam, cut)),
        patch.object(timm_mixup, "cutmix_bbox_and_lam", lambda *_, **__: (corners, area)),
        patch.object(torch.Tensor, "cuda", lambda tensor, *_, **__: tensor),
    ):
        mixed = images.clone()
        their_lam = theirs._mix_batch(mixed)
        their_targets = timm_mixup.mixup_target(labels, CLASSES, their_lam, 0.0)
    targets = _one_hot(labels)
    if cut:
        mask = outside_box((24, 40), (corners[0], corners[2], corners[1], corners[3]))
        ours = paste(images, targets, FLIPPED, mask)
        assert torch.equal(ours.images, mixed)
    else:
        ours = MixUp().apply(images, targets, Draw(lam, FLIPPED))
        assert_close(ours.images, mixed)
    assert_close(ours.soft_targets, their_targets)


def test_label_smoothing_on_top_of_mixed_labels_is_timms(batch):
    """The DeiT procedure of Table 12: timm smooths the labels, here the loss does."""
    _, labels = batch
    logits = torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(1))
    theirs = SoftTargetCrossEntropy()(logits, timm_mixup.mixup_target(labels, CLASSES, 0.3, smoothing=0.1))
    mixed = MixUp().apply(torch.zeros(N, 3, 4, 4), _one_hot(labels), Draw(0.3, FLIPPED))
    assert_close(mixed.loss(lambda images: logits, build_criterion(LossSettings(smoothing=0.1))), theirs)


def test_soft_bce_is_the_sum_over_classes(batch):
    _, labels = batch
    logits = torch.randn(N, CLASSES, generator=torch.Generator().manual_seed(1))
    mixed = MixUp().apply(torch.zeros(N, 3, 4, 4), _one_hot(labels), Draw(0.3, FLIPPED))
    by_hand = F.binary_cross_entropy_with_logits(logits, mixed.soft_targets, reduction="sum") / N
    assert_close(mixed.loss(lambda images: logits, build_criterion(LossSettings(name="bce"))), by_hand)


def test_mixup_and_cutmix_are_kornias(batch):
    images, labels = batch
    lam, (top, left, bottom, right) = 0.3, (2, 5, 18, 33)
    given = {"mixup_pairs": FLIPPED, "mixup_lambdas": torch.full((N,), 1 - lam)}
    theirs = augmentation.RandomMixUpV2(data_keys=["input"]).apply_transform(images, given)
    assert_close(MixUp().apply(images, _one_hot(labels), Draw(lam, FLIPPED)).images, theirs)
    corners = torch.tensor([[left, top], [right - 1, top], [right - 1, bottom - 1], [left, bottom - 1]]).float()
    given = {"mix_pairs": FLIPPED[None], "crop_src": corners.expand(1, N, 4, 2)}
    theirs = augmentation.RandomCutMixV2(data_keys=["input"], use_correct_lambda=True).apply_transform(images, given)
    ours = paste(images, _one_hot(labels), FLIPPED, outside_box((24, 40), (top, left, bottom, right)))
    assert torch.equal(ours.images, theirs)


@pytest.mark.parametrize("switch_prob", [0.0, 1.0])
def test_random_choice_is_the_method_it_draws(batch, switch_prob):
    images, labels = batch
    policy = RandomChoice(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=switch_prob)
    chosen = policy.sample(N, (24, 40), torch.Generator().manual_seed(3))
    assert isinstance(chosen.draw, BoxDraw) == (switch_prob == 1.0)
    alone = (CutMix() if switch_prob else MixUp()).apply(images, _one_hot(labels), chosen.draw)
    assert torch.equal(policy.apply(images, _one_hot(labels), chosen).images, alone.images)


def test_random_choice_follows_its_probability():
    policy = RandomChoice(switch_prob=0.3)
    generator = torch.Generator().manual_seed(0)
    cuts = sum(isinstance(policy.sample(2, (8, 8), generator).draw, BoxDraw) for _ in range(2000))
    assert abs(cuts / 2000 - 0.3) < 4 * (0.3 * 0.7 / 2000) ** 0.5  # four standard deviations
