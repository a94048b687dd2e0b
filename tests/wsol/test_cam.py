"""Class activation maps against what their definition fixes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from pretrain.console import UserError
from wsol import class_activation_map
from wsol.cam import features_and_logits, normalise, score_maps, stride_one_last_stage


class Colours(nn.Module):
    """Its features are the image's three channels, and each class weighs them in a known way."""

    def __init__(self, pool: float = 1.0) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.pool = pool
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, -2.0, 0.0], [0.5, 0.0, 1.0]]))
            self.fc.bias.copy_(torch.tensor([50.0, -50.0, 7.0]))

    def get_classifier(self) -> nn.Linear:
        return self.fc

    def forward_features(self, images: Tensor) -> Tensor:
        return images

    def forward_head(self, features: Tensor) -> Tensor:
        return self.fc(self.pool * features.mean(dim=(2, 3)))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 6, 8, generator=torch.Generator().manual_seed(0))


def test_the_map_is_the_weighted_sum_without_bias_and_without_relu(images: Tensor) -> None:
    maps = class_activation_map(Colours(), images, torch.tensor([0, 1, 2]))
    values = images.double().numpy()
    sums = [values[0, 0], -2 * values[1, 1], 0.5 * values[2, 0] + values[2, 2]]
    for found, expected in zip(maps, sums):
        # Shifted and scaled only: a ReLU would make all that is below zero equal.
        np.testing.assert_allclose(found, (expected - expected.min()) / np.ptp(expected), rtol=1e-13, atol=1e-14)
    assert maps.dtype == np.float64
    assert maps.min() == 0
    assert maps.max() == 1


def test_without_labels_the_predicted_class_is_taken(images: Tensor) -> None:
    # The biases decide: class 0 has 50 more than any other.
    found = class_activation_map(Colours(), images)
    np.testing.assert_array_equal(found, class_activation_map(Colours(), images, torch.zeros(3, dtype=torch.long)))


def test_mean_of_the_map_and_bias_is_the_logit() -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=5).eval()
    features, logits = features_and_logits(model, torch.randn(2, 3, 64, 64))
    for label in range(5):
        sums = (features * model.fc.weight[label].detach()[:, None, None]).sum(dim=1)
        torch.testing.assert_close(sums.mean(dim=(1, 2)) + model.fc.bias[label], logits[:, label], rtol=1e-4, atol=1e-5)
        maps = score_maps(features, model.fc.weight, torch.full((2,), label), (2, 2))
        span = sums.amax(dim=(1, 2), keepdim=True) - sums.amin(dim=(1, 2), keepdim=True)
        expected = (sums - sums.amin(dim=(1, 2), keepdim=True)) / span
        np.testing.assert_allclose(maps, expected.detach().numpy(), atol=1e-4)


def test_resizing_is_cubic_in_float64() -> None:
    features = torch.randn(1, 4, 7, 7, generator=torch.Generator().manual_seed(1))
    weight = torch.randn(2, 4, generator=torch.Generator().manual_seed(2))
    [found] = score_maps(features, weight, torch.tensor([1]), (224, 224))
    small = (features.double() * weight[1].double()[:, None, None]).sum(dim=1, keepdim=True)
    large = nn.functional.interpolate(small, (224, 224), mode="bicubic", align_corners=False)[0, 0].numpy()
    # torch's cubic has the coefficient -0.75 too, and so is an independent source of the same values.
    np.testing.assert_allclose(found, (large - large.min()) / np.ptp(large), atol=1e-12)
    linear = normalise(cv2.resize(small[0, 0].numpy(), (224, 224), interpolation=cv2.INTER_LINEAR))
    assert np.abs(found - linear).max() > 0.01


def test_a_map_that_is_constant_or_holds_nan_becomes_zero() -> None:
    assert not normalise(np.full((3, 3), 4.0)).any()
    assert not normalise(np.array([[1.0, np.nan], [0.0, 2.0]])).any()
    np.testing.assert_array_equal(normalise(np.array([[-1.0, 0.0], [1.0, 3.0]])), [[0, 0.25], [0.5, 1]])


@pytest.mark.parametrize("name", ["resnet18", "resnet50d", "resnext50_32x4d"])
def test_stride_one_doubles_the_map_and_keeps_the_weights(name: str) -> None:
    model = timm.create_model(name, num_classes=3).eval()
    fine = stride_one_last_stage(model)
    images = torch.randn(1, 3, 96, 96)
    coarse_map, _ = features_and_logits(model, images)
    fine_map, _ = features_and_logits(fine, images)
    assert coarse_map.shape[2:] == (3, 3)
    assert fine_map.shape[2:] == (6, 6)
    for key, value in model.state_dict().items():
        assert torch.equal(fine.state_dict()[key], value)
    # Same kernel, no dilation: the first strided convolution's output is every second position of the new one.
    strided = "conv1" if name == "resnet18" else "conv2"
    before, after = (getattr(network.layer4[0], strided) for network in (model, fine))
    features = torch.randn(1, before.in_channels, 6, 6)
    torch.testing.assert_close(after(features)[:, :, ::2, ::2], before(features))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "vgg11"])
def test_other_heads_are_refused_in_one_line(name: str) -> None:
    model = timm.create_model(name, num_classes=3).eval()
    with pytest.raises(UserError, match="gives no class activation map") as caught:
        class_activation_map(model, torch.randn(1, 3, 224, 224), torch.tensor([0]))
    assert "\n" not in str(caught.value)


def test_a_head_that_is_not_linear_in_the_mean_is_refused(images: Tensor) -> None:
    with pytest.raises(UserError, match="stands between"):
        class_activation_map(Colours(pool=1.5), images)


def test_a_size_that_the_network_refuses_is_one_line() -> None:
    with pytest.raises(UserError, match=r"refuses images of \(64, 64\)"):
        features_and_logits(timm.create_model("vit_tiny_patch16_224", num_classes=3), torch.randn(1, 3, 64, 64))


def test_stride_one_needs_a_layer4() -> None:
    with pytest.raises(UserError, match="--stock"):
        stride_one_last_stage(timm.create_model("mobilenetv3_small_050", num_classes=3))
