"""Class activation maps against what their definition fixes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from pretrain.console import UserError
from wsol import class_activation_map
from wsol.maps.cam import features_and_logits, head_weight, normalise, score_maps, to_score_map, with_output_stride


class Colours(nn.Module):
    """Its features are the image's three channels, and each class weighs them in a known way."""

    def __init__(self, pool: float = 1.0) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.pool = pool
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, -2.0, 0.0], [0.5, 0.0, 1.0]]))
            self.fc.bias.copy_(torch.tensor([50.0, -50.0, 7.0]))

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.pool * images.mean(dim=(2, 3)))


def classifier(library: str, name: str, classes: int) -> nn.Module:
    """A network with random weights."""
    torch.manual_seed(0)
    if library == "timm":
        return timm.create_model(name, num_classes=classes).eval()
    settings = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    return torchvision.models.get_model(name, num_classes=classes, **settings).eval()


def with_statistics_of(images: Tensor, model: nn.Module) -> None:
    """Set all batch norms to what they see of the images, without which the logits of random networks vanish."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(images)
    model.eval()


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


@pytest.mark.parametrize(
    ("library", "name", "side"),
    [
        ("timm", "resnet18", 64),
        ("timm", "densenet121", 64),
        ("timm", "test_efficientnet", 64),
        ("timm", "swin_tiny_patch4_window7_224", 224),  # its map has the channels last
        ("torchvision", "resnet18", 64),
        ("torchvision", "resnext50_32x4d", 64),
        ("torchvision", "wide_resnet50_2", 64),
        ("torchvision", "densenet121", 64),  # a ReLU in place stands between its last module and its pooling
        ("torchvision", "efficientnet_b0", 64),
        ("torchvision", "mobilenet_v2", 64),
        ("torchvision", "googlenet", 64),
        ("torchvision", "shufflenet_v2_x0_5", 64),  # it averages by Tensor.mean
        ("torchvision", "swin_t", 64),
    ],
)
@torch.no_grad()
def test_mean_of_the_map_and_bias_is_the_logit(library: str, name: str, side: int) -> None:
    model, images = classifier(library, name, 5), torch.randn(2, 3, side, side)
    with_statistics_of(images, model)
    features, logits = features_and_logits(model, images)
    torch.testing.assert_close(logits, model(images))
    weight = head_weight(model)
    bias = next(
        layer.bias
        for layer in model.modules()
        if isinstance(layer, nn.Linear) and layer.weight.data_ptr() == weight.data_ptr()
    )
    for label in range(5):
        sums = (features * weight[label][:, None, None]).sum(dim=1)
        torch.testing.assert_close(sums.mean(dim=(1, 2)) + bias[label], logits[:, label], rtol=1e-3, atol=1e-5)
        maps = score_maps(features, weight, torch.full((2,), label), tuple(features.shape[2:]))
        span = sums.amax(dim=(1, 2), keepdim=True) - sums.amin(dim=(1, 2), keepdim=True)
        expected = (sums - sums.amin(dim=(1, 2), keepdim=True)) / span
        np.testing.assert_allclose(maps, expected.numpy(), atol=1e-3)


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


def test_a_map_of_the_right_size_is_not_resized() -> None:
    raw = np.random.default_rng(0).normal(size=(5, 7))
    np.testing.assert_array_equal(to_score_map(raw, (5, 7)), normalise(raw))


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("timm", "resnet18"),
        ("timm", "resnet50d"),
        ("timm", "resnext50_32x4d"),
        ("torchvision", "resnet18"),
        ("torchvision", "resnext50_32x4d"),
    ],
)
def test_output_strides_refine_the_map_and_keep_the_weights(library: str, name: str) -> None:
    model = classifier(library, name, 3)
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    images = torch.randn(1, 3, 96, 96)
    strided = "conv1" if name == "resnet18" else "conv2"
    for output_stride, side, stages in (("stock", 3, ()), ("16", 6, ("layer4",)), ("8", 12, ("layer3", "layer4"))):
        fine = with_output_stride(model, output_stride)
        assert features_and_logits(fine, images)[0].shape[2:] == (side, side)
        for key, value in fine.state_dict().items():
            assert torch.equal(weights[key], value)
        # Same kernel, no dilation: the first strided convolution's output is every second position of the new one.
        for stage in stages:
            before, after = (getattr(getattr(network, stage)[0], strided) for network in (model, fine))
            features = torch.randn(1, before.in_channels, 6, 6)
            torch.testing.assert_close(after(features)[:, :, ::2, ::2], before(features))
    assert features_and_logits(model, images)[0].shape[2:] == (3, 3)  # the model itself is left as it was


def test_stock_is_the_model_itself() -> None:
    model = timm.create_model("test_vit", num_classes=3)
    assert with_output_stride(model, "stock") is model


@pytest.mark.parametrize(
    ("library", "name", "why"),
    [
        ("timm", "vit_tiny_patch16_224", "of images of 224x224 it averages no feature map of more than one place"),
        ("timm", "convnext_atto", "something stands between"),
        ("timm", "vgg11", "of images of 224x224 it averages no feature map of more than one place"),
        ("timm", "resnetv2_50", "its head is not a linear layer"),
        ("timm", "mobilenetv3_small_050", "its last feature map has 288 channels, its head takes 1024"),
        ("torchvision", "vgg11", "its last feature map has 512 channels, its head takes 4096"),
        ("torchvision", "squeezenet1_1", "its head is not a linear layer"),
    ],
)
def test_other_heads_are_refused_in_one_line(library: str, name: str, why: str) -> None:
    model = classifier(library, name, 3)
    with pytest.raises(UserError, match=f"gives no class activation map: {why}.*--cam gradcam") as caught:
        class_activation_map(model, torch.randn(1, 3, 224, 224), torch.tensor([0]))
    assert "\n" not in str(caught.value)


def test_a_map_of_one_place_is_refused() -> None:
    with pytest.raises(UserError, match="of images of 32x32 it averages no feature map of more than one place"):
        class_activation_map(classifier("timm", "resnet18", 3), torch.randn(1, 3, 32, 32))


def test_a_head_that_is_not_linear_in_the_mean_is_refused(images: Tensor) -> None:
    with pytest.raises(UserError, match="stands between"):
        class_activation_map(Colours(pool=1.5), images)


def test_a_size_that_the_network_refuses_is_one_line() -> None:
    with pytest.raises(UserError, match="refuses images of 64x64"):
        features_and_logits(timm.create_model("vit_tiny_patch16_224", num_classes=3), torch.randn(1, 3, 64, 64))


def test_output_strides_need_the_stages_of_a_resnet() -> None:
    with pytest.raises(UserError, match="has no layer4 whose stride could be 1; .*--output-stride stock"):
        with_output_stride(timm.create_model("mobilenetv3_small_050", num_classes=3), "16")
    with pytest.raises(UserError, match="layer4 holds a BlurPool2d with a stride; .*--output-stride stock"):
        with_output_stride(timm.create_model("resnetblur18", num_classes=3), "16")
    with pytest.raises(UserError, match="unknown output stride '32'; known: 16, 8, stock"):
        with_output_stride(timm.create_model("test_resnet", num_classes=3), "32")
