"""The attack, against the worst case of a linear network and against the formula."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pretrain.backbones import build_backbone
from pretrain.data.transforms import Normalise
from pretrain.evaluation.fgsm import FgsmMeter, fgsm

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


class Linear(nn.Module):
    """Two classes; the logit of class 1 is w . x + b, of class 0 its negative."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3 * 4 * 4, 1)

    def forward(self, images):
        score = self.line(images.flatten(1))
        return torch.cat([-score, score], dim=1)


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return Linear().eval()


def pixels_between(low, high, count=400):
    return torch.randint(low, high, (count, 3, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def error_of(model, pixels, labels, normalise, epsilon):
    meter = FgsmMeter(model, normalise, epsilon)
    for part, part_labels in zip(pixels.split(150), labels.split(150), strict=True):
        meter.update(part, part_labels)
    return meter.compute()


@pytest.mark.parametrize("epsilon", [0.0, 2 / 255, 8 / 255])
def test_a_linear_network_meets_its_worst_case(linear, epsilon):
    # No pixel is near 0 or 255, so nothing is clipped. In the ball of radius epsilon the score falls by at most
    # epsilon * sum |w / std|, and the attack reaches that.
    normalise, pixels = Normalise(MEAN, STD), pixels_between(20, 230)
    with torch.no_grad():
        score = linear(normalise(pixels))[:, 1]
        labels = (score + 0.4 * torch.randn(400, generator=torch.Generator().manual_seed(2)) > 0).long()
        slope = linear.line.weight.view(3, 4, 4) / torch.tensor(STD).view(3, 1, 1)
        worst = (2 * labels - 1) * score - epsilon * slope.abs().sum()
    expected = 100 * int((worst < 0).sum()) / 400
    assert error_of(linear, pixels, labels, normalise, epsilon) == expected
    if epsilon:
        clean = 100 * int((linear(normalise(pixels)).argmax(dim=1) != labels).sum()) / 400
        assert expected > clean + 1


def test_equals_the_formula_on_a_real_network():
    torch.manual_seed(0)
    model = build_backbone("resnet10t", 5).eval()
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    labels = torch.tensor([0, 4, 2])
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    # As it is written: x in [0, 1], normalisation behind the clip.
    x = (pixels.float() / 255).requires_grad_()
    F.cross_entropy(model((x - mean) / std), labels).backward()
    expected = (x.detach() + 8 / 255 * x.grad.sign()).clamp(0, 1)
    found = fgsm(model, pixels, labels, Normalise(MEAN, STD)) / 255
    assert found.min() == 0
    assert found.max() == 1
    same = (found - expected).abs() < 1e-6
    assert same.float().mean() > 0.999  # where a gradient is nearly zero its sign may differ by rounding


def test_no_attack_is_the_clean_error_and_a_channels_last_batch_is_the_same(linear):
    normalise, pixels = Normalise(MEAN, STD), pixels_between(0, 256)
    labels = (linear(normalise(pixels))[:, 1] > 0.1).long()
    clean = 100 * int((linear(normalise(pixels)).argmax(dim=1) != labels).sum()) / 400
    assert 0 < clean < 50
    assert error_of(linear, pixels, labels, normalise, 0.0) == clean
    assert torch.equal(fgsm(linear, pixels, labels, normalise, 0.0), pixels.float())
    rows = pixels.contiguous(memory_format=torch.channels_last)
    assert torch.equal(fgsm(linear, rows, labels, normalise), fgsm(linear, pixels, labels, normalise))


def test_the_network_is_left_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 2))
    model[1].eval()
    model[0].bias.requires_grad_(False)
    pixels, labels = torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8), torch.tensor([0, 1] * 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    with torch.no_grad():  # an evaluation's way of calling it
        attacked = fgsm(model, pixels, labels, Normalise())
    FgsmMeter(model, Normalise()).update(pixels, labels)
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == [True, False, True, True, True, True]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(attacked, fgsm(model.eval(), pixels, labels, Normalise()))  # no dropout, no batch statistics
    assert not pixels.is_floating_point()
