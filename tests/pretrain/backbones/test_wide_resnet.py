"""WRN-28-8 for images of 32 and 64 pixels, against what Zagoruyko and Komodakis print and against formulas."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain.backbones import build_backbone, stage_features
from pretrain.backbones.cifar_resnet import CifarWideResNet


def _parameters(network):
    return sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize("classes", [10, 100])
def test_parameters_are_those_of_the_architecture(classes):
    """Table 1 with n = 4 and k = 8: no bias but the head's, 1x1 convolutions where the width changes."""
    expected, before = 9 * 3 * 16, 16
    for width in (128, 256, 512):
        expected += 2 * before + 9 * before * width + before * width  # a stage's first block: norm, 3x3, shortcut
        expected += 2 * width + 9 * width**2  # its second norm and 3x3
        expected += 3 * 2 * (2 * width + 9 * width**2)
        before = width
    expected += 2 * 512 + 512 * classes + classes
    assert expected == {10: 23_354_842, 100: 23_401_012}[classes]  # the 23.4 M of WRN-28-8
    assert _parameters(build_backbone("cifar_wrn28_8", classes)) == expected


@pytest.mark.parametrize(
    ("depth", "width", "millions"),
    [(40, 2, 2.2), (40, 4, 8.9), (16, 8, 11.0), (22, 8, 17.2), (28, 10, 36.5)],
)
def test_parameters_are_those_in_the_paper(depth, width, millions):
    """Table 4 of Zagoruyko and Komodakis."""
    with torch.device("meta"):
        assert round(_parameters(CifarWideResNet(depth, width, 10)) / 1e6, 1) == millions


@pytest.mark.parametrize("size", [32, 64])
def test_stages_halve_the_resolution_twice(size):
    network = build_backbone("cifar_wrn28_8", 10).eval()
    with torch.no_grad():
        shapes = [tuple(stage_features(network, torch.zeros(1, 3, size, size), stage).shape) for stage in (1, 2, 3)]
    assert shapes == [(1, 128, size, size), (1, 256, size // 2, size // 2), (1, 512, size // 4, size // 4)]


def _norm_relu(norm, features):
    mean, variance = features.mean((0, 2, 3), keepdim=True), features.var((0, 2, 3), keepdim=True, unbiased=False)
    normed = (features - mean) / (variance + 1e-5).sqrt()
    return (normed * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)


def _by_hand(block, features, stride):
    """Figure 1 of He et al. (2016), with the shortcut's 1x1 convolution behind the first norm and ReLU."""
    activated = _norm_relu(block.norm1, features)
    inner = _norm_relu(block.norm2, F.conv2d(activated, block.conv1.weight, stride=stride, padding=1))
    shortcut = (
        features if block.downsample is None else F.conv2d(activated, block.downsample.conv.weight, stride=stride)
    )
    return shortcut + F.conv2d(inner, block.conv2.weight, padding=1)


def test_the_network_is_its_formula():
    torch.manual_seed(0)
    network = CifarWideResNet(10, 1, 5).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    images = torch.randn(4, 3, 8, 12, dtype=torch.float64)
    features, maps = F.conv2d(images, network.conv1.weight, padding=1), []
    for number, stride in enumerate((1, 2, 2), start=1):
        [block, *rest] = getattr(network, f"layer{number}")
        assert (block.downsample is None) == (number == 1)  # 16 channels stay 16
        features = _by_hand(block, features, stride)
        features = _norm_relu(rest[0], features) if rest else features
        maps.append(features)
    logits = features.mean((2, 3)) @ network.fc.weight.T + network.fc.bias
    assert_close(network(images), logits)
    assert_close([stage_features(network, images, stage) for stage in (1, 2, 3)], maps)


def test_the_last_map_is_what_the_head_averages():
    network = build_backbone("cifar_wrn28_8", 10).eval()
    images = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        last = stage_features(network, images, 3)
        assert last.min() == 0  # behind the final ReLU
        assert stage_features(network, images, 2).min() < 0  # a sum
        assert torch.equal(network.forward_head(last), network(images))


def test_stochastic_depth_grows_linearly():
    network = build_backbone("cifar_wrn28_8", 10, drop_path_rate=0.22)
    blocks = [block for stage in network.stages for block in getattr(network, stage) if hasattr(block, "drop_path")]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.02 * number for number in range(12)])


def test_weights_are_drawn_by_the_fan_out():
    """He et al. (2015): variance 2 / (9 * 512) in a 3x3 from 256 to 512 channels; the head N(0, 0.01)."""
    torch.manual_seed(0)
    network = build_backbone("cifar_wrn28_8", 100)
    assert network.layer3[0].conv1.weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert network.fc.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not network.fc.bias.any()
