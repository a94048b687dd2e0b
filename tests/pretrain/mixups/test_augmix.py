"""AugMix: its operations against PIL's, its draws against their distributions, its loss against timm's."""

import math
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy import stats
from timm.loss import JsdCrossEntropy
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as tv

from pretrain import mixups
from pretrain.mixups.augmix import AugMix, ViewDraw, augment, jensen_shannon
from pretrain.mixups.augmix_ops import OPS

SIZES = [(32, 32), (45, 30)]
LEVELS = [0.1, 0.7, 1.0, 1.9, 2.6, 3.0]


def _image(size=(45, 30), seed=0):
    """Smooth waves and some noise, whose values stop short of 0 and 255, uint8 (3, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    waves = torch.stack([(x / 7 + phase).sin() + (y / 9 - phase).cos() for phase in (0.0, 1.0, 2.0)])
    return (128 + 40 * waves + 10 * torch.rand(waves.shape, generator=generator)).round().to(torch.uint8)


def _pil(operation, image):
    """An operation of PIL on an image, uint8 (3, H, W)."""
    return tv.pil_to_tensor(operation(tv.to_pil_image(image)))


def _affine(matrix, resample):
    return lambda pil: pil.transform(pil.size, Image.Transform.AFFINE, matrix, resample=resample)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("level", LEVELS)
def test_pixel_operations_are_those_of_pil(size, level):
    image = _image(size)
    assert torch.equal(OPS["equalize"](image, level), _pil(ImageOps.equalize, image))
    bits, threshold = 4 - int(level * 4 / 10), 256 - int(level * 256 / 10)
    for signed in (level, -level):
        assert torch.equal(OPS["posterize"](image, signed), _pil(lambda pil: ImageOps.posterize(pil, bits), image))
        assert torch.equal(OPS["solarize"](image, signed), _pil(lambda pil: ImageOps.solarize(pil, threshold), image))
    stretched = OPS["autocontrast"](image, level)
    difference = stretched.int() - _pil(ImageOps.autocontrast, image).int()
    assert difference.abs().max() <= 1  # both cut off the fraction, of products that are rounded differently
    assert stretched.amin() == 0
    assert stretched.amax() >= 254


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("level", LEVELS)
def test_translations_are_those_of_pil(size, level, sign):
    image, (height, width) = _image(size), size
    for name, matrix in [
        ("translate_x", (1, 0, sign * int(level * (width / 3) / 10), 0, 1, 0)),
        ("translate_y", (1, 0, 0, 0, 1, sign * int(level * (height / 3) / 10))),
    ]:
        expected = _pil(_affine(matrix, Image.Resampling.BILINEAR), image)
        assert torch.equal(OPS[name](image, sign * level), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y"])
def test_rotation_and_shears_are_those_of_pil(name, size, level, sign):
    slope = sign * level * 0.3 / 10
    operation = {
        "rotate": lambda pil: pil.rotate(sign * int(level * 30 / 10), resample=Image.Resampling.BILINEAR),
        "shear_x": _affine((1, slope, 0, 0, 1, 0), Image.Resampling.BILINEAR),
        "shear_y": _affine((1, 0, 0, slope, 1, 0), Image.Resampling.BILINEAR),
    }[name]
    image = _image(size)
    ours, theirs = OPS[name](image, sign * level), _pil(operation, image)
    # At the rim, torchvision fades to black and PIL does not: compare where a white image stays white.
    inside = OPS[name](torch.full_like(image, 255), sign * level) == 255
    assert inside.float().mean() > 0.7
    difference = (ours.int() - theirs.int())[inside]
    assert difference.abs().max() <= 1  # PIL cuts off the fraction, torchvision rounds
    assert not torch.equal(ours, image) or (name == "rotate" and level == 0.1)


def test_strength_grows_with_the_level():
    image = _image((224, 224))
    for name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
        weak, strong = (
            (OPS[name](torch.full_like(image, 255), level) < 128).float().mean().item() for level in (1.0, 3.0)
        )
        assert 2 * weak < strong
    assert_close(OPS["rotate"](image, 0.3), image)  # int(0.9 degrees)
    assert_close(OPS["translate_x"](image, 0.1), image)  # int(0.75 pixels)


def test_pixels_are_mixed_by_the_weights():
    image = _image()
    chains = ((("equalize", 1.0),), (("posterize", 2.0), ("translate_y", -3.0)), (("solarize", 3.0), ("rotate", 2.0)))
    parts = [image.double().numpy()]
    for chain in chains:
        part = image
        for name, level in chain:
            part = OPS[name](part, level)
        parts.append(part.double().numpy())
    for share, weights in [(0.0, (0.2, 0.5, 0.3)), (1.0, (0.0, 1.0, 0.0)), (0.7, (0.2, 0.5, 0.3))]:
        exact = (1 - share) * parts[0] + share * np.tensordot(weights, np.stack(parts[1:]), 1)
        view = augment(image, ViewDraw(share, weights, chains))
        assert view.dtype == torch.uint8
        assert np.abs(view.numpy() - exact).max() <= 0.5 + 1e-4
    assert torch.equal(augment(image, ViewDraw(0.0, (0.2, 0.5, 0.3), chains)), image)
    assert torch.equal(augment(image, ViewDraw(0.9, (0.2, 0.5, 0.3), ((), (), ()))), image)


def test_mixing_before_or_after_normalising():
    # The official code normalises each part and mixes then.
    image, mean, std = (
        _image(),
        torch.tensor([124.0, 116, 104]).view(3, 1, 1),
        torch.tensor([58.0, 57, 57]).view(3, 1, 1),
    )
    draw = AugMix().sample_view(torch.Generator().manual_seed(5))
    mixed = (1 - draw.share) * (image - mean) / std
    for weight, chain in zip(draw.weights, draw.chains):
        part = image
        for name, level in chain:
            part = OPS[name](part, level)
        mixed += draw.share * weight * (part - mean) / std
    ours = (augment(image, draw) - mean) / std
    assert ((ours - mixed) * std).abs().max() <= 0.5 + 1e-3  # half a level


@pytest.mark.parametrize("size", [(32, 32), (45, 31), (1, 1)])
def test_views(size):
    image, policy = _image(size), AugMix()
    before = image.clone()
    views = policy.views(image, torch.Generator().manual_seed(0))
    assert views.shape == (3, 3, *size)
    assert views.dtype == torch.uint8
    assert torch.equal(views[0], image)
    assert torch.equal(image, before)
    assert torch.equal(views, policy.views(image, torch.Generator().manual_seed(0)))
    if size != (1, 1):
        assert not torch.equal(views[1], image)
        assert not torch.equal(views[1], views[2])
        assert not torch.equal(views, policy.views(image, torch.Generator().manual_seed(1)))


def test_views_follow_the_seed_of_the_loader():
    image, transform = _image(), pickle.loads(pickle.dumps(AugMix().views))  # as it comes to a spawned worker
    torch.manual_seed(3)
    first = transform(image)
    state = np.random.get_state()[1].copy()
    torch.manual_seed(3)
    assert torch.equal(first, transform(image))
    torch.manual_seed(4)
    assert not torch.equal(first, transform(image))
    assert np.array_equal(state, np.random.get_state()[1])


def _draws(n=1500, **settings):
    generator = torch.Generator().manual_seed(0)
    policy = AugMix(**settings)
    return [policy.sample_view(generator) for _ in range(n)]


@pytest.mark.parametrize("severity", [1.0, 3.0])
def test_operations_levels_and_depths(severity):
    chains = [chain for draw in _draws(500, severity=severity) for chain in draw.chains]
    names, levels = zip(*(step for chain in chains for step in chain))
    assert len(chains) == 1500
    assert stats.chisquare([names.count(name) for name in OPS]).pvalue > 0.01
    assert stats.chisquare([[len(chain) for chain in chains].count(depth) for depth in (1, 2, 3)]).pvalue > 0.01
    assert {len(chain) for chain in chains} == {1, 2, 3}
    assert stats.kstest(np.abs(levels), stats.uniform(0.1, severity - 0.1).cdf).pvalue > 0.01
    assert stats.binomtest(sum(level > 0 for level in levels), len(levels)).pvalue > 0.01


def test_the_nine_operations():
    # Hendrycks et al., section 3: without those of ImageNet-C.
    assert set(OPS) == {
        *("autocontrast", "equalize", "posterize", "rotate", "solarize"),
        *("shear_x", "shear_y", "translate_x", "translate_y"),
    }


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_weights_follow_dirichlet_and_beta(alpha):
    draws = _draws(alpha=alpha)
    weights = np.array([draw.weights for draw in draws])
    assert_close(torch.tensor(weights.sum(1)), torch.ones(len(draws), dtype=torch.float64))
    for chain in range(3):
        assert stats.kstest(weights[:, chain], stats.beta(alpha, 2 * alpha).cdf).pvalue > 0.01
    expected = stats.dirichlet([alpha] * 3).cov()
    assert np.abs(np.cov(weights.T) - expected).max() < 0.01
    assert stats.kstest([draw.share for draw in draws], stats.beta(alpha, alpha).cdf).pvalue > 0.01
    assert abs(np.corrcoef(weights[:, 0], [draw.share for draw in draws])[0, 1]) < 0.08


def test_width_and_depth():
    for draw in _draws(20, width=2, depth=5):
        assert [len(chain) for chain in draw.chains] == [5, 5]
    for draw in _draws(20, width=1):
        assert draw.weights == (1.0,)


def _logits(n=7, classes=11, scale=3.0):
    return scale * torch.randn(n, 3, classes, generator=torch.Generator().manual_seed(2))


class _Fixed(nn.Module):
    """A network whose logits are given, (N, V, K)."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images):
        assert images.ndim == 4
        return self.logits.flatten(0, 1)


def _batch(n=7, classes=11, size=(8, 6)):
    images = torch.randn(n, 3, 3, *size, generator=torch.Generator().manual_seed(0))
    return images, F.one_hot(torch.arange(n) % classes, classes).float()


@pytest.mark.parametrize("scale", [0.1, 3.0, 15.0])
def test_loss_and_gradient_are_those_of_timm(scale):
    images, targets = _batch()
    network = _Fixed(_logits(scale=scale))
    loss = AugMix()(images, targets).loss(network, nn.CrossEntropyLoss())
    loss.backward()
    by_view = network.logits.detach().transpose(0, 1).flatten(0, 1).requires_grad_()  # timm's order: all clean first
    expected = JsdCrossEntropy(num_splits=3, alpha=12, smoothing=0)(by_view, targets.argmax(1).repeat(3))
    expected.backward()
    assert_close(loss, expected, atol=1e-6, rtol=1e-6)
    assert_close(network.logits.grad, by_view.grad.view(3, 7, 11).transpose(0, 1), atol=1e-6, rtol=1e-5)


def test_identical_views_do_not_diverge():
    logits = _logits()[:, :1].expand(7, 3, 11)
    assert_close(jensen_shannon(logits), torch.zeros(()), atol=1e-6, rtol=0)
    images, targets = _batch()
    loss = AugMix()(images, targets).loss(_Fixed(logits.clone()), nn.CrossEntropyLoss())
    assert_close(loss, F.cross_entropy(logits[:, 0], targets), atol=1e-5, rtol=0)


def test_certain_and_different_views_diverge_by_log_3():
    logits = (1000 * torch.eye(3)[None]).requires_grad_()
    divergence = jensen_shannon(logits)
    assert divergence.item() == pytest.approx(math.log(3), abs=1e-6)
    divergence.backward()
    assert logits.grad.isfinite().all()  # where a probability is zero, too


def test_divergence_is_float32_under_autocast():
    logits = _logits().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        divergence = jensen_shannon(logits)
    assert divergence.dtype == torch.float32
    assert_close(divergence, jensen_shannon(logits.float()))


def test_weight_of_the_divergence():
    images, targets = _batch()
    ce, one, twelve = (
        AugMix(jsd_weight=weight)(images, targets).loss(_Fixed(_logits()), nn.CrossEntropyLoss()).item()
        for weight in (1e-9, 1.0, 12.0)
    )
    assert twelve - ce == pytest.approx(12 * (one - ce), rel=1e-5)
    assert one - ce > 0.1


@pytest.mark.parametrize("n", [1, 7])
def test_batch_of_views(n):
    images, targets = _batch(n)
    before = images.clone()
    result = AugMix()(images, targets)
    assert result.images.shape == (3 * n, 3, 8, 6)
    for i in range(n):
        assert torch.equal(result.images[3 * i : 3 * i + 3], before[i])
    assert result.images.data_ptr() == images.data_ptr()  # nothing is copied
    assert torch.equal(images, before)
    assert torch.equal(result.lam, torch.ones(n))
    assert torch.equal(result.weights, torch.eye(n))
    assert torch.equal(result.soft_targets, targets)


def test_which_methods_ask_the_loader_for_views():
    asking = {name for name, policy in mixups.POLICIES.items() if policy.views is not None}
    assert asking == {"augmix"}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 3, 8, 8), "the views come from the loader"),
        (torch.zeros(2, 2, 3, 8, 8), r"float \(N, 3, 3, H, W\)"),
        (torch.zeros(2, 3, 3, 8, 8, dtype=torch.uint8), "not torch.uint8"),
        (torch.zeros(3, 3, 3, 8, 8), "3 images and 2 targets"),
    ],
)
def test_batches_that_do_not_fit(images, message):
    with pytest.raises(ValueError, match=f"augmix: .*{message}"):
        AugMix()(images, torch.zeros(2, 4))


@pytest.mark.parametrize("image", [torch.zeros(3, 8, 8), torch.zeros(2, 3, 8, 8, dtype=torch.uint8)])
def test_images_that_have_no_views(image):
    with pytest.raises(ValueError, match="augmix: views are of uint8"):
        AugMix().views(image)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("severity", 0.0), ("severity", 11.0), ("width", 0), ("depth", 0), ("depth", -2), ("alpha", 0.0)]
    + [("jsd_weight", -1.0)],
)
def test_bad_settings(setting, value):
    with pytest.raises(ValueError, match=f"augmix: {setting} has to be .*{value}"):
        mixups.build("augmix", **{setting: value})


def test_all_operations_come_up_in_views():
    used = Counter(name for draw in _draws(50) for chain in draw.chains for name, _ in chain)
    assert set(used) == set(OPS)
