"""Grad-CAM against its closed form, and what the picture of mixed images says of them."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from pretrain.backbones import BackboneCard, build_backbone
from pretrain.console import UserError
from pretrain.evaluation import pictures
from pretrain.evaluation.cams import grad_cams
from pretrain.evaluation.pictures import COLUMNS, RIGHT, WRONG, draw_mixed_cams

pytest.importorskip("pytorch_grad_cam")


class Pooled(nn.Module):
    """A convolution without stride, global average pooling and a linear head: the CAM is the head's sum of maps."""

    def __init__(self, classes=4, channels=5):
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.body = nn.Conv2d(3, channels, 3, padding=1)
        self.fc = nn.Linear(channels, classes)
        self.feature_info = [{"module": "stem", "reduction": 1}, {"module": "body", "reduction": 1}]

    def forward(self, images):
        return self.fc(self.body(self.stem(images)).mean(dim=(2, 3)))


class PooledLast(Pooled):
    """The same with channels last, as in Swin."""

    output_fmt = "NHWC"

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(self.body, _Permute())

    def forward(self, images):
        return self.fc(self.body(self.stem(images)).mean(dim=(1, 2)))


class _Permute(nn.Module):
    def forward(self, features):
        return features.permute(0, 2, 3, 1)


def _closed_form(network, images, classes):
    """ReLU of the sum over channels of the head's weight times the feature map, stretched to [0, 1]."""
    features = network.body(network.stem(images))
    if features.shape[-1] == network.fc.in_features:
        features = features.permute(0, 3, 1, 2)
    maps = torch.einsum("nc,nchw->nhw", network.fc.weight[classes], features).relu().detach()
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    return (maps - low) / (high - low)


@pytest.mark.parametrize("kind", [Pooled, PooledLast])
def test_grad_cam_of_pooling_and_a_linear_head(kind):
    torch.manual_seed(0)
    network = kind().train()
    images, classes = torch.randn(6, 3, 7, 9), torch.tensor([0, 1, 2, 3, 3, 0])
    with torch.no_grad():  # as a caller may be
        maps = grad_cams(network, images, classes)
    assert maps.shape == (6, 7, 9)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(maps, _closed_form(network, images, classes), atol=1e-5, rtol=0)
    other = grad_cams(network, images, (classes + 1) % 4)
    assert (other - maps).abs().amax(dim=(1, 2)).min() > 0.1


def test_the_network_is_left_as_it_was():
    network = build_backbone("resnet10t", 3).train()
    network.layer1.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    maps = grad_cams(network, torch.randn(2, 3, 64, 64), torch.tensor([0, 2]))
    assert maps.shape == (2, 64, 64)
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert network.training
    assert not network.layer1.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_network_of_tokens_has_no_such_map():
    with pytest.raises(UserError, match=r"VisionTransformer gives its last stage as tokens \(1, 17, 192\)"):
        grad_cams(build_backbone("deit_tiny_patch16_224", 3, img_size=64), torch.zeros(1, 3, 64, 64), torch.zeros(1))


def test_the_library_is_asked_for_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    with pytest.raises(UserError, match=r"pip install 'mixup-transfer\[cam\]'") as error:
        grad_cams(Pooled(), torch.zeros(1, 3, 4, 4), torch.zeros(1))
    assert "\n" not in str(error.value)


CARD = BackboneCard(
    arch="pooled",
    classes=("cat", "dog", "a-class-of-a-long-name", "owl"),
    mean=(0.1, 0.2, 0.3),
    std=(0.5, 0.25, 1.0),
)


class Fixed(Pooled):
    """Logits that are known, row by row of a batch."""

    def __init__(self, logits):
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images):
        return self.logits[: len(images)] + 0 * super().forward(images)


@pytest.fixture
def figure(monkeypatch):
    """Two pairs, one method, of which the first pair is found and the second half."""
    monkeypatch.setattr(
        pictures, "grad_cams", lambda _, images, classes: classes.view(-1, 1, 1).expand(-1, 4, 4).float() / 8
    )
    images = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    asked = []

    def mix(normalised, partners):
        asked.append((normalised, partners))
        return 0.25 * normalised + 0.75 * normalised[partners]

    model = Fixed([[3.0, 2.0, 0.0, 0.0], [0.0, 1.0, 5.0, 4.0]])
    drawn = draw_mixed_cams(model, CARD, images, torch.tensor([1, 0, 2, 0]), {"mine": mix})
    return drawn, images, asked


def test_titles_name_the_classes_and_say_whether_they_are_of_the_pair(figure):
    drawn, _, _ = figure
    first = [axes.get_title() for axes in np.array(drawn.axes).reshape(3, 4)[:, :2].ravel()]
    second = [axes.get_title() for axes in np.array(drawn.axes).reshape(3, 4)[:, 2:].ravel()]
    shares = torch.tensor([[3.0, 2.0, 0.0, 0.0], [0.0, 1.0, 5.0, 4.0]]).softmax(dim=1)
    assert first == ["i: dog", "mine", "j: cat", f"✓ cat {shares[0, 0]:.2f}", "", f"✓ dog {shares[0, 1]:.2f}"]
    long = "a-class-of-a…"
    assert second == [f"i: {long}", "mine", "j: cat", f"✓ {long} {shares[1, 2]:.2f}", "", f"✗ owl {shares[1, 3]:.2f}"]
    frames = [axes.spines["top"].get_edgecolor() for axes in np.array(drawn.axes).reshape(3, 4)[1:, 1::2].ravel()]
    right, wrong = (tuple(int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)) + (1.0,) for colour in (RIGHT, WRONG))
    assert frames == [right, right, right, wrong]
    notes = [text.get_text() for axes in drawn.axes for text in axes.texts]
    assert len(notes) == 2
    assert all("of the pair" in note for note in notes)


def test_pictures_are_the_pair_its_mix_and_the_heat_of_each_class(figure):
    drawn, images, [(normalised, partners)] = figure
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (CARD.mean, CARD.std))
    torch.testing.assert_close(normalised, (images - mean) / std)
    assert partners.tolist() == [1, 0, 3, 2]
    grid = np.array(drawn.axes).reshape(3, 4)
    for pair in (0, 1):
        i, j = images[2 * pair].permute(1, 2, 0), images[2 * pair + 1].permute(1, 2, 0)
        shown = [grid[row, 2 * pair].images[0].get_array() for row in (0, 1)]
        assert np.allclose(shown[0], i)
        assert np.allclose(shown[1], j)
        assert np.allclose(grid[0, 2 * pair + 1].images[0].get_array(), 0.25 * i + 0.75 * j, atol=1e-6)
        heat = [grid[row, 2 * pair + 1].images[1].get_array().mean() for row in (1, 2)]
        assert heat == [best / 8 for best in ((0, 1), (2, 3))[pair]]


@pytest.mark.parametrize(("pairs", "methods", "shape"), [(1, 2, (3, 3)), (3, 4, (6, 10)), (2, COLUMNS, (6, 11))])
def test_pairs_stand_beside_each_other_while_there_is_room(pairs, methods, shape):
    mixes = {str(number): lambda images, partners: images for number in range(methods)}
    drawn = draw_mixed_cams(Pooled(), CARD, torch.rand(2 * pairs, 3, 4, 4), torch.zeros(2 * pairs).long(), mixes)
    assert drawn.axes[0].get_subplotspec().get_gridspec().get_geometry() == shape
    assert sum(bool(axes.images) for axes in drawn.axes) == pairs * (2 + 3 * methods)
