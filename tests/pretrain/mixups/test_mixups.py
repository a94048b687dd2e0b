"""Every mixing method, on images that carry their own label: image i is the constant i."""

import json
from dataclasses import asdict

import pytest
import torch
from coded import coded_batch
from scipy import stats
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain import mixups
from pretrain.automix.losses import LossSettings, build_criterion
from pretrain.backbones import build_backbone
from pretrain.console import UserError
from pretrain.mixups import MixContext, training_context
from pretrain.mixups.policy import MixResult, one_hot, sample_lam

ALL = sorted(mixups.POLICIES)
IN_IMAGES = [name for name in ALL if mixups.POLICIES[name].mixes_images]
WITH_LAMBDA = [name for name in IN_IMAGES if name not in ("comixup", "supermix")]  # these ask saliency and a teacher
SHAPES = [(5, 24, 40), (1, 17, 31), (2, 33, 12), (7, 32, 32)]  # odd and even, wide and tall, a batch of one


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def context(classes):
    """Offer everything, computed from nothing but the shape of what comes in."""
    return MixContext(
        saliency=lambda images, targets: noise(len(images), *images.shape[-2:]),
        features=lambda images: noise(len(images), 8, 7, 7),
        teacher=lambda images: images.float().mean((2, 3)) @ noise(3, classes),
        attention=training_context(nn.Identity(), F.cross_entropy).attention,
    )


def mixed(name, n, height, width, seed=0, **settings):
    images, targets = coded_batch(n, height, width)
    policy = mixups.build(name, **settings)
    return images, targets, policy(images, targets, context(n), torch.Generator().manual_seed(seed))


def test_the_thirteen_methods_and_those_beside_them_are_here():
    compared = {
        "mixup", "cutmix", "manifoldmix", "augmix", "attentivemix", "saliencymix", "fmix", "resizemix", "puzzlemix",
        "comixup", "supermix", "alignmix", "transmix",
    }  # fmt: skip
    assert len(compared) == 13
    assert compared | {"random_choice", "random_grids"} <= set(ALL)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", IN_IMAGES)
def test_label_weights_are_those_of_the_pixels(name, shape):
    for seed in range(4):
        images, _, result = mixed(name, *shape, seed)
        assert torch.equal(images, coded_batch(*shape)[0])  # nothing is changed in place
        codes = torch.arange(shape[0], dtype=torch.float32)
        assert_close(result.weights.sum(1), torch.ones(shape[0]))
        assert_close(result.soft_targets, result.weights)  # the targets of these images are the identity
        # The mean pixel is the sum of weight times code, whatever the shape of the mix.
        assert_close(result.images.mean((1, 2, 3)), result.weights @ codes, rtol=1e-5, atol=1e-4)
        if result.lam is not None:  # pairs
            assert_close(result.mask * images + (1 - result.mask) * images[result.index], result.images)
            assert_close(result.mask.mean((1, 2, 3)), result.lam)


@pytest.mark.parametrize("name", IN_IMAGES)
def test_same_generator_same_mix(name):
    first, second, other = (mixed(name, 5, 24, 40, seed)[2] for seed in (7, 7, 8))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.soft_targets, second.soft_targets)
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("name", IN_IMAGES)
def test_the_global_generators_have_no_say(name):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    mixed(name, 5, 24, 40)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", WITH_LAMBDA)
def test_lambda_of_one_is_the_identity(name):
    images, targets = coded_batch(5, 24, 40)
    policy = mixups.build(name)
    draw = policy.sample(5, (24, 40), torch.Generator().manual_seed(0), lam=1.0)
    result = policy.apply(images, targets, draw, context(5))
    assert torch.equal(result.images, images)
    assert torch.equal(result.soft_targets, targets)


@pytest.mark.parametrize("name", IN_IMAGES)
def test_half_precision_images_keep_float32_labels(name):
    images, targets = coded_batch(4, 16, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        policy = mixups.build(name)
        result = policy(images.bfloat16(), targets, context(4), torch.Generator().manual_seed(0))
    assert result.images.dtype == torch.bfloat16
    assert result.soft_targets.dtype == torch.float32
    assert_close(result.soft_targets.sum(1), torch.ones(4))


@pytest.mark.parametrize("loss", [LossSettings(), LossSettings(smoothing=0.1), LossSettings(name="bce")], ids=str)
@pytest.mark.parametrize("name", ALL)
def test_every_method_trains_a_network(name, loss):
    """Every parameter gets a finite gradient, from one call of the interface that the training loop uses."""
    torch.manual_seed(0)
    vit = name == "transmix"
    network = build_backbone("vit_tiny_patch16_224", 7, img_size=32, patch_size=8) if vit else None
    network = network or build_backbone("cifar_resnet20", 7)
    criterion = build_criterion(loss)
    frozen = build_backbone("cifar_resnet20", 7).eval().requires_grad_(False)
    images, targets = torch.randn(4, 3, 32, 32), one_hot(torch.tensor([0, 2, 6, 2]), 7)
    if mixups.POLICIES[name].views:
        images = torch.stack([images, images.flip(2), images.flip(3)], dim=1)
    policy, generator = mixups.build(name), torch.Generator().manual_seed(0)
    result = policy(images, targets, training_context(network, criterion, frozen), generator)
    assert all(parameter.grad is None for parameter in network.parameters())  # saliency asks for the images' alone
    result.loss(network, criterion).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    assert sum(parameter.grad.abs().sum() for parameter in network.parameters()) > 0
    assert all(parameter.grad is None for parameter in frozen.parameters())


def test_weights_are_the_matrix_of_the_pairs():
    result = MixResult(
        torch.zeros(3, 3, 2, 2), torch.tensor([0.2, 0.5, 0.9]), torch.tensor([2, 1, 0]), None, torch.eye(3)
    )
    expected = torch.tensor([[0.2, 0.0, 0.8], [0.0, 1.0, 0.0], [0.1, 0.0, 0.9]])  # image 1 is its own partner
    assert_close(result.weights, expected)


def test_mixup_is_one_lambda_everywhere():
    assert len(mixed("mixup", 5, 24, 40, alpha=0.5)[2].mask.unique()) == 1


def test_cutmix_pastes_one_box():
    for seed in range(20):
        mask = mixed("cutmix", 5, 24, 40, seed)[2].mask[0, 0]
        rows, columns = (mask == 0).any(1).sum(), (mask == 0).any(0).sum()
        assert rows * columns == (mask == 0).sum()


def test_clipping_shows_more_of_cutmixs_first_image():
    """E[1 - area] with a uniform centre: of a side s of the image's, s - s^2 / 4 is visible, in both directions."""
    policy, generator = mixups.build("cutmix"), torch.Generator().manual_seed(0)
    images, targets = torch.zeros(2, 1, 64, 64), torch.eye(2)
    draws = [policy.sample(2, (64, 64), generator, lam=0.36) for _ in range(4000)]
    lams = torch.tensor([policy.apply(images, targets, draw).lam[0] for draw in draws])
    side = 0.8
    assert float(lams.mean()) == pytest.approx(1 - (side - side**2 / 4) ** 2, abs=4 * float(lams.std()) / 4000**0.5)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_lambda_follows_the_beta_distribution(alpha):
    generator = torch.Generator().manual_seed(0)
    drawn = [sample_lam(alpha, generator) for _ in range(2000)]
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_a_trainings_settings_give_its_method_back_through_json():
    policy = mixups.build("saliencymix", alpha=0.5, mean=(0.1, 0.2, 0.3))
    training = {"name": "saliencymix", "momentum": 0.999, "one_hot_ce": True} | asdict(policy)
    assert mixups.build_from(json.loads(json.dumps(training))) == mixups.build_from(training) == policy
    with pytest.raises(UserError, match="unknown mixing method 'salencymix'; did you mean 'saliencymix'"):
        mixups.build_from(training | {"name": "salencymix"})


def test_unknown_names():
    with pytest.raises(UserError, match="did you mean 'cutmix'"):
        mixups.build("cutmx")
    with pytest.raises(UserError, match="'mixup' has no setting 'alpa'; did you mean 'alpha'"):
        mixups.build("mixup", alpa=1.0)


@pytest.mark.parametrize("name", [name for name in ALL if "alpha" in mixups.POLICIES[name].__dataclass_fields__])
@pytest.mark.parametrize("alpha", [0, -0.5, float("nan")])
def test_alpha_has_to_be_positive(name, alpha):
    with pytest.raises(ValueError, match=f"{name}: alpha has to be positive, not {alpha}"):
        mixups.build(name, alpha=alpha)


def test_a_given_lambda_is_a_share():
    with pytest.raises(ValueError, match=r"cutmix: lambda has to be in \[0, 1\], not 1.2"):
        mixups.build("cutmix").sample(2, (8, 8), lam=1.2)


@pytest.mark.parametrize("name", [name for name in ALL if mixups.POLICIES[name].needs])
def test_a_context_that_lacks_something_is_named(name):
    images, targets = coded_batch(2, 8, 8)
    [need] = mixups.POLICIES[name].needs
    for given in (None, MixContext()):
        with pytest.raises(ValueError, match=f"{name}: the context has no {need}, which this method needs"):
            mixups.build(name)(images, targets, given)
        policy = mixups.build(name)
        with pytest.raises(ValueError, match=f"{name}: the context has no {need}"):
            policy.apply(images, targets, policy.sample(2, (8, 8)), given)


@pytest.mark.parametrize("name", IN_IMAGES)
@pytest.mark.parametrize(
    ("images", "targets", "message"),
    [
        (torch.zeros(4, 3, 8, 8), torch.zeros(3, 5), "4 images and 3 targets do not fit together"),
        (torch.zeros(4, 3, 8, 8), torch.zeros(4).long(), r"targets have to be float \(N, K\), not torch.int64 \(4,\)"),
        (torch.zeros(3, 8, 8), torch.zeros(3, 5), r"images have to be float \(N, 3, H, W\), not torch.float32 \(3, 8"),
        (torch.zeros(4, 3, 8, 8).byte(), torch.zeros(4, 5), "images have to be float .* not torch.uint8"),
    ],
    ids=["count", "labels", "shape", "dtype"],
)
def test_what_does_not_fit_is_named(name, images, targets, message):
    with pytest.raises(ValueError, match=f"{name}: {message}"):
        mixups.build(name)(images, targets, context(5))


@pytest.mark.parametrize("label", [-1, 5])
def test_labels_out_of_range_are_named(label):
    with pytest.raises(ValueError, match=rf"labels \[{label}\] are outside 0 .. 4"):
        one_hot(torch.tensor([0, label, 3]), 5)
