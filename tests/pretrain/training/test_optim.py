"""The optimizer and its schedule: who is trained, at which rate; what is decayed, clipped and averaged."""

import copy
import json
import math

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from pretrain.automix import AutoMixSettings
from pretrain.backbones import build_backbone
from pretrain.training.devices import launch_fabric
from pretrain.training.logbook import read_log
from pretrain.training.loop import train
from pretrain.training.method_settings import METHODS, VanillaSettings
from pretrain.training.methods import build_method
from pretrain.training.optim import Schedule, build_optimizer
from pretrain.training.settings import OptimSettings, load_settings


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


@pytest.mark.parametrize("batch", [256, 64])
def test_rates_are_scaled_linearly_with_the_batch(batch):
    optim = OptimSettings(lr=0.1, min_lr=0.01, lr_batch_size=256, epochs=4)
    method = build_method(AutoMixSettings(mix_block_lr=0.02, mix_block_min_lr=0.001), build_backbone("resnet10t", 3), 3)
    optimizer = build_optimizer(method, optim, batch)
    schedule = Schedule(optimizer, optim, steps_per_epoch=10)
    for step, rates in ((0, [0.1, 0.02]), (40, [0.01, 0.001])):
        schedule.set_rates(step)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([r * batch / 256 for r in rates])


def test_rates_without_a_stated_batch_hold_for_any():
    method = build_method(VanillaSettings(), build_backbone("resnet10t", 3), 3)
    assert build_optimizer(method, OptimSettings(lr=0.1), 64).param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("name", ["resnet10t", "test_vit", "swin_tiny_patch4_window7_224"])
def test_what_is_not_decayed_is_what_timm_leaves_out(name):
    network = build_backbone(name, 3)
    method = build_method(VanillaSettings(), network, 3)
    optim = OptimSettings(name="adamw", weight_decay=0.05, decay_norm_and_bias=False)
    theirs = create_optimizer_v2(network, opt="adamw", lr=0.1, weight_decay=0.05, filter_bias_and_bn=True).param_groups
    expected = {g["weight_decay"]: set(map(id, g["params"])) for g in theirs}
    groups = build_optimizer(method, optim).param_groups
    assert {g["weight_decay"]: set(map(id, g["params"])) for g in groups} == expected
    assert expected[0.0]


def test_the_mix_block_keeps_its_rate_where_biases_are_not_decayed():
    method = build_method(AutoMixSettings(mix_block_lr=0.5), build_backbone("resnet10t", 3), 3)
    groups = build_optimizer(method, OptimSettings(decay_norm_and_bias=False)).param_groups
    block = {id(p): p.ndim for p in method.mix_block.parameters()}
    for group in groups:
        for parameter in group["params"]:
            assert group["lr"] == (0.5 if id(parameter) in block else 0.1)
            assert (group["weight_decay"] == 0) == (parameter.ndim == 1)


def test_lamb_takes_gradients_as_they_are():
    """timm's LAMB divides a gradient by its norm where that exceeds 1; Table 12 has no clipping for RSB."""
    steps = []
    for size in (1.0, 1000.0):
        torch.manual_seed(0)
        method = build_method(VanillaSettings(), torch.nn.Linear(3, 2, bias=False), 2)
        optimizer = build_optimizer(method, OptimSettings(name="lamb", lr=0.1, weight_decay=0.0))
        for scale in (1.0, size):  # Adam's second step tells a large gradient from a small one
            method.model.weight.grad = torch.full((2, 3), scale)
            optimizer.step()
        steps.append(method.model.weight.detach().clone())
    assert optimizer.defaults["max_grad_norm"] is None
    assert not torch.allclose(*steps)


def test_the_gradient_is_clipped_to_its_norm(config, tmp_path):
    """SGD without momentum or decay moves by lr * gradient: at most by lr * clip_norm, and the norm is in the log."""
    clip = 0.01
    changes = {"optim.clip_norm": clip, "optim.momentum": 0.0, "optim.weight_decay": 0.0, "optim.epochs": 1}
    settings = load_settings(config, changes, method="vanilla")
    moved = []

    def note(optimizer, *_):
        before = [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]
        moved.append((before, optimizer.param_groups[0]["lr"]))

    def compare(optimizer, *_):
        before, lr = moved[-1]
        now = [p.detach() for group in optimizer.param_groups for p in group["params"]]
        moved[-1] = math.sqrt(sum(float((a - b).double().square().sum()) for a, b in zip(now, before))) / lr

    hooks = [
        register_optimizer_step_pre_hook(note),
        register_optimizer_step_post_hook(compare),
    ]
    try:
        train(settings, tmp_path / "run", resume=False, fabric=launch_fabric("32-true"))
    finally:
        for hook in hooks:
            hook.remove()
    assert moved == pytest.approx([clip] * 4, rel=2e-2)
    norms = [entry["gradient_norm"] for entry in read_log(tmp_path / "run") if "gradient_norm" in entry]
    assert len(norms) == 4
    assert min(norms) > 10 * clip


def test_the_average_of_the_weights_is_timms():
    network = timm.create_model("test_resnet", num_classes=3)
    method = build_method(VanillaSettings(), network, 3, ema_decay=0.9)
    reference = ModelEmaV3(copy.deepcopy(network), decay=0.9)
    for step in range(3):
        method.set_progress(step, 3)
        network.train()(torch.randn(4, 3, 32, 32))  # moves the statistics
        for parameter in network.parameters():
            parameter.data += torch.randn_like(parameter)
        method.after_step()
        reference.update(network)
    assert list(method.encoders()) == ["ema", "model"]
    own, other = method.encoders()["ema"].state_dict(), reference.module.state_dict()
    for name, value in other.items():
        torch.testing.assert_close(own[name], value, msg=name)


def test_a_method_with_a_momentum_encoder_keeps_no_second_average():
    for settings in (AutoMixSettings(), METHODS["mixup"](momentum=0.999)):
        method = build_method(settings, build_backbone("resnet10t", 3), 3, ema_decay=0.9)
        assert list(method.encoders()) == ["teacher", "student"]
        method.set_progress(0, 10)
        assert method.momentum == 0.999


def test_a_run_with_an_average_reports_and_exports_it(config, tmp_path, capsys):
    changes = {"optim.ema_decay": 0.5, "optim.epochs": 2, "optim.lr_batch_size": 16}
    settings = load_settings(config, changes, method="cutmix")
    result = train(settings, tmp_path / "run", resume=False, fabric=launch_fabric("32-true"))
    assert result["branch"] == "ema"
    assert {"ema_top1", "model_top1"} <= result["accuracy"].keys()
    assert sorted(path.stem for path in (tmp_path / "run/export").glob("*.safetensors")) == ["ema", "model"]
    assert json.loads((tmp_path / "run/export/ema.json").read_text())["branch"] == "ema"
    assert "learning rate: 0.02 at 16 images is 0.01 at 8, scaled linearly" in capsys.readouterr().err
    rates = [entry["lr"] for entry in read_log(tmp_path / "run") if "lr" in entry]
    assert rates[0] == pytest.approx(0.01)
