"""The optimizer and its schedule: who is trained, at which rate."""

import math

import pytest

from pretrain.automix import AutoMixSettings
from pretrain.backbones import build_backbone
from pretrain.training.methods import build_method
from pretrain.training.optim import Schedule, build_optimizer
from pretrain.training.settings import OptimSettings, VanillaSettings


def _rates(method, optim, step):
    optimizer = build_optimizer(method, optim)
    Schedule(optimizer, optim, steps_per_epoch=10).set_rates(step)
    return [group["lr"] for group in optimizer.param_groups]


def test_the_mix_block_follows_the_same_cosine_from_its_own_peak():
    optim = OptimSettings(lr=0.1, epochs=4)
    method = build_method(AutoMixSettings(mix_block_lr=0.02), build_backbone("resnet10t", 3), 3)
    student, block = method.parameter_groups()
    assert len(student["params"]) == len(list(method.student.parameters()))
    assert {id(p) for p in block["params"]} == {id(p) for p in method.mix_block.parameters()}
    for step in (0, 13, 40):
        half = (1 + math.cos(math.pi * step / 40)) / 2
        assert _rates(method, optim, step) == pytest.approx([0.1 * half, 0.02 * half])


def test_without_a_rate_of_its_own_the_mix_block_has_the_student_s():
    method = build_method(AutoMixSettings(), build_backbone("resnet10t", 3), 3)
    assert _rates(method, OptimSettings(lr=0.1), 0) == [0.1, 0.1]


@pytest.mark.parametrize("settings", [AutoMixSettings(), VanillaSettings()], ids=lambda settings: settings.name)
def test_everything_that_asks_for_a_gradient_is_trained_once(settings):
    method = build_method(settings, build_backbone("resnet10t", 3), 3)
    trained = [id(p) for group in build_optimizer(method, OptimSettings()).param_groups for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in method.parameters() if p.requires_grad)
