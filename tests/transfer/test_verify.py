"""The proof of parity: exact where it should be, and failing for each of the mistakes that break it in silence."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import randomised
from torch import nn

import transfer.networks
from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from transfer import command
from transfer.convert import Converted, convert
from transfer.networks import stage_features
from transfer.verify import normalise, verify

STAGES = {"layer1", "layer2", "layer3", "layer4"}


@pytest.mark.parametrize(
    "arch", ["resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "resnext101_32x8d"]
)
@pytest.mark.parametrize("head", ["c4", "fpn"])
@pytest.mark.parametrize("target", ["detectron2", "mmdet"])
def test_detectors_compute_the_same_to_the_last_bit(arch: str, head: str, target: str) -> None:
    source = randomised(arch)
    outcome = verify(source, convert(source, target, head=head), target)
    assert outcome.max_abs_diff == dict.fromkeys(["input", "stem", *sorted(STAGES)], 0.0)
    assert outcome.passed


@pytest.mark.parametrize("head", ["c4", "fpn"])
def test_a_slim_resnet_in_mmdetection(head: str) -> None:
    source = randomised("slim_resnet18")
    outcome = verify(source, convert(source, "mmdet", head=head), "mmdet")
    assert outcome.max_abs_diff == dict.fromkeys(["input", "stem", *sorted(STAGES)], 0.0)


@pytest.mark.parametrize("target", ["torchvision", "timm"])
@pytest.mark.parametrize("arch", ["resnet18", "resnext101_32x4d", "slim_resnet18"])  # torchvision has the names alone
def test_torchvision_and_timm_compute_the_same(arch: str, target: str) -> None:
    source = randomised(arch)
    assert verify(source, convert(source, target), target).passed


@pytest.fixture(scope="module")
def source() -> dict[str, torch.Tensor]:
    return randomised("resnet18")


@pytest.fixture(scope="module", params=["detectron2", "mmdet"])
def converted(source: dict[str, torch.Tensor], request: pytest.FixtureRequest) -> Converted:
    return convert(source, request.param, head="c4")


def failing(source: dict, converted: Converted) -> dict[str, float]:
    outcome = verify(source, converted, converted.target)
    assert not outcome.passed
    return outcome.max_abs_diff


@pytest.mark.parametrize("target", ["detectron2", "mmdet"])
@pytest.mark.parametrize("head", ["c4", "fpn"])
def test_stride_in_the_1x1_convolution_is_seen(target: str, head: str) -> None:
    source = randomised("resnet50")
    converted = convert(source, target, head=head)
    differences = failing(source, replace(converted, card=replace(converted.card, stride_style="caffe")))
    assert differences["stem"] == differences["layer1"] == 0  # these have no stride
    assert min(differences[stage] for stage in STAGES - {"layer1"}) > 0.01


@pytest.mark.parametrize(
    "change",
    [
        {"std": (1 / 255, 1 / 255, 1 / 255)},  # the default of both, 1 on [0, 255]
        {"mean": (0.406, 0.456, 0.485)},
        {"std": (0.229, 0.224, 0.2250001)},
        {"channel_order": "BGR"},
    ],
)
def test_wrong_preprocessing_is_seen(source: dict, converted: Converted, change: dict) -> None:
    assert failing(source, replace(converted, card=replace(converted.card, **change)))["input"] > 0


def test_wrong_eps_is_seen(source: dict, converted: Converted, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the source's network, as if the framework had another one: the difference is the same."""
    build = transfer.networks._build

    def with_another_eps(*args: Any) -> nn.Module:
        model = build(*args)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 1e-3
        return model

    monkeypatch.setattr(transfer.networks, "_build", with_another_eps)
    assert min(failing(source, converted)[stage] for stage in STAGES) > 0


NAMES = {  # of conv1.weight, layer4.1.bn2.running_mean, layer2.1.bn1.bias and layer2.1.bn2.bias
    "detectron2": (
        "backbone.stem.conv1.weight",
        "roi_heads.res5.1.conv2.norm.running_mean",
        "backbone.res3.1.conv1.norm.bias",
        "backbone.res3.1.conv2.norm.bias",
    ),
    "mmdet": (
        "backbone.conv1.weight",
        "roi_head.shared_head.layer4.1.bn2.running_mean",
        "backbone.layer2.1.bn1.bias",
        "backbone.layer2.1.bn2.bias",
    ),
}


def test_two_exchanged_tensors_are_seen(source: dict, converted: Converted) -> None:
    weights = dict(converted.state_dict)
    first, second = NAMES[converted.target][2:]
    weights[first], weights[second] = weights[second], weights[first]
    differences = failing(source, replace(converted, state_dict=weights))
    assert differences["layer1"] == 0
    assert differences["layer2"] > 0


def test_tensor_that_would_stay_random_is_refused(source: dict, converted: Converted) -> None:
    for name in NAMES[converted.target][:2]:
        weights = {other: tensor for other, tensor in converted.state_dict.items() if other != name}
        with pytest.raises(UserError, match=f"{name} is not in the file, and would stay random"):
            verify(source, replace(converted, state_dict=weights), converted.target)
    more = converted.state_dict | {"backbone.x": torch.zeros(1)}
    with pytest.raises(UserError, match="backbone.x has no place"):
        verify(source, replace(converted, state_dict=more), converted.target)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_library_that_is_not_filled_is_refused(source: dict, library: str) -> None:
    card, images, name = BackboneCard(arch="resnet18", classes=()), torch.zeros(1, 3, 64, 64), "layer3.0.conv1.weight"
    lacking = {other: tensor for other, tensor in source.items() if other != name}
    with pytest.raises(UserError, match=f"{library} resnet18: no exact fit: {name}"):
        stage_features(library, card, lacking, images)
    with pytest.raises(UserError, match="no exact fit: layer5.weight"):
        stage_features(library, card, {**source, "layer5.weight": torch.zeros(1)}, images)
    with pytest.raises(UserError, match="size mismatch for layer3.0.conv1.weight"):
        stage_features(library, card, {**source, name: torch.zeros(1)}, images)


def test_not_a_number_does_not_pass(source: dict, converted: Converted) -> None:
    name = NAMES[converted.target][2]
    weights = converted.state_dict | {name: torch.full_like(converted.state_dict[name], torch.nan)}
    assert failing(source, replace(converted, state_dict=weights))["layer2"] == torch.inf


def test_preprocessing_is_that_of_torchvision() -> None:
    """(x / 255 - mean) / std, to float32's rounding."""
    picture = torch.arange(256.0).view(1, 1, 16, 16).repeat(1, 3, 1, 1)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    card = BackboneCard(arch="resnet18", classes=())
    torch.testing.assert_close(normalise(picture, card), (picture / 255 - mean) / std, rtol=0, atol=1e-6)


def test_command_line_fails_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import transfer.d2.config

    source = randomised("resnet18")
    torch.save({"state_dict": source}, tmp_path / "source.pth")
    monkeypatch.setattr(sys, "argv", ["convert_to_d2.py", str(tmp_path / "nowhere.pth"), str(tmp_path / "out.onnx")])
    with pytest.raises(UserError, match=r"out\.onnx: the converted file ends in"):  # before anything is read
        command.convert_command("detectron2")
    monkeypatch.setattr(sys, "argv", ["convert_to_d2.py", str(tmp_path / "source.pth"), str(tmp_path / "out.pth")])
    right = transfer.d2.config.card_values
    with monkeypatch.context() as patch:
        patch.setattr(transfer.d2.config, "card_values", lambda card: right(card) | {"MODEL.PIXEL_STD": [1.0] * 3})
        with pytest.raises(UserError, match="does not compute the same"):
            command.convert_command("detectron2")
    assert not (tmp_path / "out.pth").exists()
    capsys.readouterr()

    command.convert_command("detectron2")
    printed = capsys.readouterr().out
    assert "ASSUMED, no card" in printed
    assert [line.split()[1::2][:2] for line in printed.splitlines() if "layer4 " in line] == [["layer4", "0"]]
    assert (tmp_path / "out.pth").is_file()
    assert (tmp_path / "out.json").is_file()
