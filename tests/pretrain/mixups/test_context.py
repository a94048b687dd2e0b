"""What a run offers to its mixing method: the saliency by its formula, and that a look at it changes nothing."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain.backbones import build_backbone, stage_features
from pretrain.mixups import training_context
from pretrain.mixups.policy import one_hot


def test_saliency_of_a_linear_network_is_the_formulas():
    """d CE / d x = W^T (softmax - y) / N for logits W x; the saliency is its root mean square over the channels."""
    torch.manual_seed(0)
    images, targets = torch.randn(4, 3, 5, 6), one_hot(torch.tensor([0, 1, 2, 1]), 3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(90, 3, bias=False))
    weight = network[1].weight.detach()
    error = (images.flatten(1) @ weight.T).softmax(1) - targets
    gradient = (error @ weight / 4).view(4, 3, 5, 6)
    saliency = training_context(network, F.cross_entropy).saliency(images, targets)
    assert_close(saliency, (gradient**2).mean(1).sqrt())


def test_a_look_at_the_saliency_changes_nothing():
    network = build_backbone("cifar_resnet20", 5)
    network.layer2.eval()  # as somebody may have frozen it
    modes = {name: module.training for name, module in network.named_modules()}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():  # as in an evaluation
        saliency = training_context(network, F.cross_entropy).saliency(images, one_hot(torch.arange(4), 5))
    assert saliency.shape == (4, 32, 32)
    assert not saliency.requires_grad
    assert not images.requires_grad
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_modes_come_back_when_the_network_fails():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Linear(7, 7))
    with pytest.raises(RuntimeError):
        training_context(network, F.cross_entropy).saliency(torch.zeros(2, 3, 4, 4), torch.eye(2))
    assert all(module.training for module in network.modules())


def test_the_frozen_networks_features_are_its_last_stages():
    frozen = build_backbone("cifar_resnet18", 5).eval()
    context = training_context(nn.Identity(), F.cross_entropy, frozen)
    images = torch.randn(2, 3, 32, 32)
    features = context.features(images)
    assert torch.equal(features, stage_features(frozen, images, 4))
    assert not features.requires_grad
    assert context.teacher is frozen
    nothing = training_context(nn.Identity(), F.cross_entropy)
    assert nothing.features is None
    assert nothing.teacher is None
