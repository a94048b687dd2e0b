"""Maps by all methods against what theory fixes, or against the papers' formulas written out once more."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch
import torchvision
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from pretrain.console import UserError
from wsol.maps.cam import class_activation_map, to_score_map
from wsol.maps.explain import METHODS, Mapper

OF_THE_LIBRARY = [method for method in METHODS if method != "cam"]
LABELS = torch.tensor([2, 0, 3])
SIZE = (12, 16)


class Tiny(nn.Module):
    """Its head sees mean and maximum of the last map, so that gradients differ from place to place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 6, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(12, 4)
        nn.init.normal_(self.fc.weight, std=30)  # gradients that are large against the library's 1e-6 in Grad-CAM++

    def head(self, features: Tensor) -> Tensor:
        return self.fc(torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def resized(cam: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map as the library resizes it: after a ReLU, scaled to [0, 1], bilinear."""
    cam = np.maximum(cam, 0)
    if not cam.any():
        return np.zeros(size)
    large = cv2.resize(((cam - cam.min()) / np.ptp(cam)).astype(np.float32), size[::-1]).astype(np.float64)
    return (large - large.min()) / np.ptp(large)


def features_and_gradients(model: Tiny, images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    features = model.body(images).detach().requires_grad_()
    model.head(features).gather(1, LABELS[:, None]).sum().backward()
    return features.detach().double().numpy(), features.grad.double().numpy()


def gradcam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Selvaraju et al., equations 1 and 2."""
    return np.einsum("nchw,nc->nhw", features, gradients.mean(axis=(2, 3)))


def gradcam_plus_plus(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Chattopadhay et al., equations 5 and 19, for a score whose exponential is differentiated."""
    sums = features.sum(axis=(2, 3), keepdims=True)
    denominator = 2 * gradients**2 + sums * gradients**3
    alpha = np.divide(gradients**2, denominator, out=np.zeros_like(denominator), where=gradients != 0)
    return np.einsum("nchw,nc->nhw", features, (alpha * np.maximum(gradients, 0)).sum(axis=(2, 3)))


def layercam(features: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Jiang et al., equations 5 and 6."""
    return (np.maximum(gradients, 0) * features).sum(axis=1)


@pytest.mark.parametrize(
    ("method", "formula"), [("gradcam", gradcam), ("gradcam++", gradcam_plus_plus), ("layercam", layercam)]
)
def test_methods_of_gradients_are_their_formulas(images: Tensor, method: str, formula: Any) -> None:
    model = Tiny().eval()
    found = Mapper(model, method)(images, LABELS)
    expectation = formula(*features_and_gradients(model, images))
    assert (expectation > 0).any(axis=(1, 2)).sum() >= 2
    for cam, expected in zip(found.maps, expectation):
        np.testing.assert_allclose(to_score_map(cam, SIZE), resized(expected, SIZE), atol=1e-4)
    assert found.maps.dtype == np.float64
    assert found.maps.shape == (3, *SIZE)
    assert found.grid == (6, 8)
    torch.testing.assert_close(found.logits, model(images).detach())


@torch.no_grad()
def test_scorecam_weighs_channels_by_the_scores_of_masked_images(images: Tensor) -> None:
    model = Tiny().eval()
    model.fc.weight /= 30
    found = Mapper(model, "scorecam", score_batch=4)(images, LABELS)
    for cam, image, label in zip(found.maps, images, LABELS):
        features = model.body(image[None])
        masks = functional.interpolate(features, SIZE, mode="bilinear", align_corners=True)[0]
        low, high = masks.amin(dim=(1, 2), keepdim=True), masks.amax(dim=(1, 2), keepdim=True)
        scores = torch.stack([model((image * mask)[None])[0, label] for mask in (masks - low) / (high - low + 1e-8)])
        expected = (scores.softmax(dim=0)[:, None, None] * features[0]).sum(dim=0)
        np.testing.assert_allclose(to_score_map(cam, SIZE), resized(expected.double().numpy(), SIZE), atol=1e-5)
    torch.testing.assert_close(found.logits, model(images))
    assert found.grid == (6, 8)


@pytest.mark.parametrize(
    "build",
    [
        partial(timm.create_model, "resnet18"),
        torchvision.models.resnet18,
        torchvision.models.densenet121,  # the ReLU before its pooling is no module, and in place
        torchvision.models.efficientnet_b0,  # its squeeze-and-excitation averages, too
        partial(timm.create_model, "swin_tiny_patch4_window7_224", img_size=96, window_size=3),
        torchvision.models.swin_t,
    ],
    ids=["timm", "torchvision", "densenet", "efficientnet", "timm swin", "torchvision swin"],
)
def test_gradcam_is_the_positive_part_of_the_plain_map(build: Any) -> None:
    # Behind an average and a linear head the gradient is the weight over the number of places (Selvaraju et al., 3.1).
    torch.manual_seed(1)
    model, images = build(num_classes=4), torch.randn(3, 3, 96, 96)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(images)
    model.eval()
    plain, found = (Mapper(model, method)(images, LABELS) for method in ("cam", "gradcam"))
    for raw, cam in zip(plain.maps, found.maps):
        assert (raw > 0).any()
        np.testing.assert_allclose(to_score_map(cam, (96, 96)), resized(raw, (96, 96)), atol=1e-3)
    assert plain.grid == found.grid == (3, 3)
    torch.testing.assert_close(plain.logits, found.logits)


def test_the_plain_map_is_that_of_the_metric(images: Tensor) -> None:
    model = timm.create_model("test_resnet", num_classes=4).eval()
    images = torch.randn(3, 3, 64, 64)
    found = Mapper(model)(images, LABELS)
    maps = np.stack([to_score_map(raw, (64, 64)) for raw in found.maps])
    np.testing.assert_array_equal(maps, class_activation_map(model, images, LABELS))
    assert found.logits.dtype == torch.float32
    assert not found.logits.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_the_predicted_class_is_that_of_the_largest_logit(method: str) -> None:
    model = timm.create_model("test_resnet", num_classes=4).eval()
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        predicted = model(images).argmax(dim=1)
    found = Mapper(model, method, "predicted")(images, (predicted + 1) % 4)
    np.testing.assert_allclose(found.maps, Mapper(model, method)(images, predicted).maps, atol=1e-6)
    assert np.abs(found.maps - Mapper(model, method)(images, (predicted + 1) % 4).maps).max() > 1e-3


def _of_timm(prefix: int) -> VisionTransformer:
    return VisionTransformer(
        img_size=(32, 48), patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=2, reg_tokens=prefix - 1
    )


def _of_torchvision(prefix: int) -> torchvision.models.VisionTransformer:
    return torchvision.models.VisionTransformer(48, 8, 2, 2, 16, 32, num_classes=2)


@pytest.mark.parametrize(
    ("build", "prefix", "size"), [(_of_timm, 1, (32, 48)), (_of_timm, 5, (32, 48)), (_of_torchvision, 1, (48, 48))]
)
@pytest.mark.parametrize("method", ["gradcam", "layercam"])
def test_a_transformers_map_is_highest_at_a_planted_token(
    build: Any, prefix: int, size: tuple[int, int], method: str
) -> None:
    torch.manual_seed(0)
    model = build(prefix).eval()
    position = model.pos_embed if hasattr(model, "pos_embed") else model.encoder.pos_embedding
    with torch.no_grad():
        position.zero_()  # all tokens of a black image are the same
        head = model.head if hasattr(model, "head") else model.heads.head
        head.weight.normal_()
        head.weight[1] = -head.weight[0]  # what speaks against one class speaks for the other
    rows, columns = size[0] // 8, size[1] // 8
    for row, column in [(0, 0), (1, 4), (rows - 1, columns - 1)]:
        image = torch.zeros(1, 3, *size)
        image[:, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = torch.linspace(-3, 3, 8)
        found = Mapper(model, method)(image.expand(2, -1, -1, -1), torch.tensor([0, 1]))
        assert found.grid == (rows, columns)
        centres = found.maps[:, 4::8, 4::8]  # the middle of each patch
        assert (row, column) in [np.unravel_index(each.argmax(), each.shape) for each in centres]


@pytest.mark.parametrize("method", OF_THE_LIBRARY)
def test_nothing_is_printed_and_the_model_is_left_as_it_was(
    images: Tensor, method: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = Tiny()
    model.body[0].eval()
    model.body[2].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():  # the caller's mode is no matter
        Mapper(model, method)(images, LABELS)
        Mapper(model, method)(images, LABELS)
    assert capfd.readouterr() == ("", "")
    assert [module.training for module in (model, model.body, model.body[0], model.fc)] == [True, True, False, True]
    assert [value.requires_grad for value in model.parameters()] == [True, True, False, True, True, True]
    assert all(value.grad is None for value in model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not images.requires_grad


def test_a_mapper_keeps_no_hooks_nor_graph_between_batches() -> None:
    model = timm.create_model("test_vit", num_classes=4).eval()
    mapper = Mapper(model, "gradcam")
    images = torch.randn(3, 3, 160, 160)
    first = mapper(images, LABELS)
    np.testing.assert_array_equal(first.maps, mapper(images, LABELS).maps)
    np.testing.assert_allclose(first.maps[1:2], mapper(images[1:2], LABELS[1:2]).maps, atol=1e-5)
    assert not any(module._forward_hooks for module in mapper.tapped.modules())


def test_frozen_parameters_are_no_obstacle(images: Tensor) -> None:
    model = Tiny().eval()
    expected = Mapper(model, "gradcam")(images, LABELS).maps
    np.testing.assert_array_equal(Mapper(model.requires_grad_(False), "gradcam")(images, LABELS).maps, expected)


def test_scorecam_keeps_one_feature_map_and_not_one_for_each_channel(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("pytorch_grad_cam")
    kept = []
    release = library.ActivationsAndGradients.release
    monkeypatch.setattr(
        library.ActivationsAndGradients, "release", lambda self: (kept.append(len(self.activations)), release(self))
    )
    model, sizes = Tiny(), []
    model.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    Mapper(model, "scorecam", score_batch=4)(images, LABELS)
    assert max(kept) == 1
    assert sizes == [1] + 3 * [1, 4, 2]  # a look at the network, then each image alone and under its six masks


def test_words_that_nobody_knows_are_one_line() -> None:
    with pytest.raises(UserError, match="unknown method 'grad-cam'; did you mean 'gradcam'"):
        Mapper(Tiny(), "grad-cam")
    with pytest.raises(UserError, match="unknown label 'truth'; did you mean 'true'"):
        Mapper(Tiny(), label="truth")


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)  # an import of it fails now
    with pytest.raises(UserError, match=r"needs the grad-cam library \(.*\); .*pip install 'mixup-transfer\[cam\]'"):
        Mapper(Tiny(), "gradcam")
    assert Mapper(Tiny(), "cam").tapped is None


@pytest.mark.parametrize("name", ["mixer_s32_224", "cait_xxs24_224", "vgg11"])
def test_networks_without_a_map_are_refused_in_one_line(name: str) -> None:
    model = timm.create_model(name, num_classes=4)
    with pytest.raises(UserError, match=f"^{name}: .*take another network$") as caught:
        Mapper(model, "gradcam", arch=name)(torch.randn(1, 3, 224, 224), torch.tensor([0]))
    assert "\n" not in str(caught.value)


def test_sizes_that_a_network_refuses_are_one_line() -> None:
    mapper = Mapper(torchvision.models.vit_b_32(), "gradcam", arch="torchvision:vit_b_32")
    with pytest.raises(UserError, match=r"vit_b_32: VisionTransformer refuses images of 64x64 .*--input-size"):
        mapper(torch.randn(1, 3, 64, 64), torch.tensor([0]))


def test_the_protocols_words_name_method_and_version() -> None:
    assert "float64, cubic" in Mapper(Tiny()).describe()
    described = Mapper(Tiny(), "layercam").describe()
    assert described.startswith("LayerCAM (Jiang et al., TIP 2021) by grad-cam 1.")
    assert "ReLU, float32, bilinear" in described
