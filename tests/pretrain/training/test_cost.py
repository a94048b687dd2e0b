"""Operations of training steps against published figures, and the hours that follow from them."""

import re
import runpy
from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from pretrain.console import UserError
from pretrain.training import cost
from pretrain.training.cells import CONFIGS, cells
from pretrain.training.cost import (
    FACTORS,
    RTX_3090,
    SMALL,
    column_costs,
    flop_counter,
    step_flops,
    sustained,
    total_hours,
)
from pretrain.training.settings import load_settings

PERFORMANCE = Path(__file__).parents[3] / "docs" / "performance.md"


def _settings(config, method):
    return load_settings(CONFIGS / "pretrain" / f"{config}.py", method=method)


def _forward(name):
    with torch.device("meta"):
        network, images = timm.create_model(name), torch.empty(1, 3, 224, 224)
    with flop_counter() as counter, torch.no_grad():
        network.eval()(images)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("name", "giga"),  # multiply-adds at 224 pixels, as the papers, torchvision and timm print them
    [
        ("resnet18", 1.82),
        ("resnet50", 4.09),
        ("resnet101", 7.8),
        ("resnext101_32x4d", 8.0),
        ("deit_small_patch16_224", 4.6),
        ("swin_tiny_patch4_window7_224", 4.5),
        ("convnext_tiny", 4.5),
        ("efficientnet_b0", 0.39),
        ("mobilenetv2_100", 0.30),
    ],
)
def test_a_forward_pass_is_as_published(name, giga):
    assert _forward(name) / 2e9 == pytest.approx(giga, rel=0.03)


@pytest.mark.parametrize(
    ("config", "first"),  # operations of the first layer: 2 x places x weights
    [
        ("imagenet/r50_100ep", 2 * 112 * 112 * 64 * 3 * 49),
        ("imagenet/rx101_100ep", 2 * 112 * 112 * 64 * 3 * 49),
        ("imagenet/effb0_a2_300ep", 2 * 112 * 112 * 32 * 3 * 9),
        ("imagenet/convnextt_300ep", 2 * 56 * 56 * 96 * 3 * 16),
        ("imagenet/deits_300ep", 2 * 14 * 14 * 384 * 3 * 256),
        ("imagenet/swint_300ep", 2 * 56 * 56 * 96 * 3 * 16),
    ],
)
def test_a_vanilla_step_is_three_forward_passes_but_for_the_images_gradient(config, first):
    settings = _settings(config, "vanilla")
    assert step_flops(settings, 1000, 1) == 3 * _forward(settings.backbone.name) - first


@pytest.mark.parametrize(
    ("config", "ratio"),  # Algorithm 1's floor, counted pass by pass in benchmarks/automix_step.py
    [("cifar100/r18_800ep", 2.92), ("imagenet/r18_100ep", 2.95), ("imagenet/r50_100ep", 2.97)],
)
def test_a_step_of_automix_over_vanilla(config, ratio):
    counts = [step_flops(_settings(config, method), 100) for method in ("automix", "vanilla")]
    assert counts[0] / counts[1] == pytest.approx(ratio, abs=0.005)


def test_operations_grow_with_the_batch_alone():
    settings = _settings("imagenet/deits_300ep", "automix")
    assert step_flops(settings, 10, 6) == 3 * step_flops(settings, 10, 2)
    with pytest.raises(UserError, match="only steps of vanilla and automix"):
        step_flops(_settings("imagenet/deits_300ep", "puzzlemix"), 10)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_real_grouped_convolution_is_counted_like_a_product(groups):
    convolution = nn.Conv2d(8, 16, 3, groups=groups, bias=False)
    with flop_counter() as counter:
        convolution(torch.zeros(2, 8, 6, 6, requires_grad=True)).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (2 * 4 * 4) * (16 * 8 // groups * 9)


def test_a_transposed_convolution_is_counted_by_the_places_of_its_input():
    convolution = nn.ConvTranspose2d(4, 6, 3, bias=False)
    with flop_counter() as counter:
        convolution(torch.zeros(2, 4, 5, 5, requires_grad=True)).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (2 * 5 * 5) * (4 * 6 * 9)


def test_attention_on_a_cpu_is_counted():
    query, key, value = (torch.zeros(2, 3, 7, 8, requires_grad=True) for _ in range(3))
    with flop_counter() as counter:
        F.scaled_dot_product_attention(query, key, value).sum().backward()
    assert counter.get_total_flops() == 3 * 2 * (2 * 2 * 3 * 7 * 7 * 8)  # two products, a step of them thrice


@pytest.mark.parametrize(
    ("backbone", "precision", "images"),  # NVIDIA's table for one A100
    [("resnet50", "16-mixed", 2470), ("resnet50", "32-true", 938), ("resnext101_32x4d", "32-true", 300.42)],
)
def test_the_assumed_speed_gives_back_the_published_one(backbone, precision, images):
    with torch.device("meta"):
        network = timm.create_model(backbone)
        batch = torch.empty(1, 3, 224, 224)
    with flop_counter() as counter:
        network(batch).sum().backward()
    assert sustained(backbone, precision) / counter.get_total_flops() == pytest.approx(images, rel=1e-6)


def test_every_network_of_the_tables_has_a_speed_below_the_cards():
    """An A100's peaks: 312 TFLOP/s in half precision, 156 in TF32, 19.5 in float32 (NVIDIA's data sheet)."""
    for cell in {cell.config: cell for cell in cells()}.values():
        settings = load_settings(cell.path)
        name, precision = settings.backbone.name, settings.run.precision
        assert name in SMALL or name in RTX_3090
        peak = 19.5 if name.startswith(("deit", "swin", "convnext")) else 156 if precision == "32-true" else 312
        assert 1e12 < sustained(name, precision) < 0.6e12 * peak
    with pytest.raises(UserError, match="no training speed"):
        sustained("vgg16", "32-true")


def test_hours_of_a_column():
    """ResNet-50 for 100 epochs at NVIDIA's 938 images/s: 5004 steps of 256 images an epoch, 38 hours."""
    [column] = [column for column in column_costs(2) if column.config == "imagenet/r50_100ep"]
    assert column.images == 5004 * 256 * 100
    assert column.hours("vanilla") == pytest.approx(column.images / 938 / 3600, rel=1e-3)
    assert column.hours("automix") == pytest.approx(2.97 * column.hours("vanilla"), rel=2e-3)
    assert column.hours("puzzlemix") == pytest.approx(1.73 * column.hours("vanilla"))
    rows = 6 + 1.008 + 1.73 + column.automix / column.vanilla
    assert column.all_hours == pytest.approx(3 * rows * column.hours("vanilla"))
    assert total_hours([column, column]) == pytest.approx(column.all_hours)


def test_rows_that_cannot_be_trained_cost_nothing(monkeypatch):
    monkeypatch.setattr(cost, "step_flops", lambda *_: 2)
    monkeypatch.setattr(cost, "sustained", lambda *_: 1.0)
    cost._counted.cache_clear()
    methods = {column.config: column.methods for column in column_costs(4)}
    assert "transmix" in methods["imagenet/deits_300ep"]
    assert "transmix" not in methods["imagenet/swint_300ep"]
    cost._counted.cache_clear()


def test_factors_are_those_of_the_measured_table():
    row = re.compile(r"^\| (\w+) \| [\d.]+ \| ([\d.]+) \| [\d.]+ \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|", re.MULTILINE)
    measured = {name: (float(a), float(b)) for name, a, b in row.findall(PERFORMANCE.read_text())}
    assert {name: measured[name] for name in FACTORS} == FACTORS
    cheap = {cell.method for cell in cells()} - set(FACTORS) - {"automix", "attentivemix", "random_choice", "vanilla"}
    assert all(max(measured[name]) < 1.02 for name in cheap)


def test_the_table_of_costs_is_printed(monkeypatch, capsys):
    monkeypatch.setattr(cost, "step_flops", lambda *_: 2_000_000_000)
    cost._counted.cache_clear()
    monkeypatch.setattr("sys.argv", ["configs.py", "cost", "--table", "4", "--markdown"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(Path(__file__).parents[3] / "tools/configs.py"), run_name="__main__")
    cost._counted.cache_clear()
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "| imagenet/deits_300ep | 384 M | 1.0 | 1.0 |" in shown
    assert "nothing was measured on an A100 here" in shown
