"""The exported backbone: what is written is what is read, and nothing else is believed."""

import json

import pytest
import torch

from pretrain import build_backbone, load_backbone
from pretrain.backbones import BackboneCard, export_backbone, read_card, read_weights, stage_channels, stage_features
from pretrain.console import UserError


@pytest.fixture
def exported(tmp_path):
    torch.manual_seed(0)
    model = build_backbone("resnet18", 2)
    card = export_backbone(model, BackboneCard(arch="resnet18", classes=("cat", "dog")), tmp_path / "export" / "model")
    return model.eval(), card, tmp_path / "export" / "model.safetensors"


def test_round_trip(exported):
    model, card, path = exported
    again, read = load_backbone(path)
    assert read == card
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(again(images), model(images))
    assert {p.name for p in path.parent.iterdir()} == {"model.safetensors", "model.json"}


def test_other_weights_than_the_card_says_are_refused(exported):
    _, _, path = exported
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match="its SHA-256 is not the one in model.json"):
        read_weights(path)
    path.unlink()
    with pytest.raises(UserError, match="no such file, though its card is there"):
        read_weights(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ('{"a": 1}', "not the card of an exported backbone"),
        ('{"arch": "resnet18", "classes": [], "sha256": "", "sterm": 1}', "unknown entries sterm"),
    ],
)
def test_damaged_cards_are_refused(exported, text, message):
    _, _, path = exported
    path.with_suffix(".json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_card(path)


def test_weights_of_another_architecture_are_refused(exported):
    _, _, path = exported
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "arch": "resnet34"}))
    with pytest.raises(UserError, match="the weights are not those of resnet34"):
        load_backbone(path)


@pytest.mark.parametrize(
    ("name", "channels", "side"),
    [("resnet18", 256, 4), ("resnet50", 1024, 4), ("convnext_atto", 160, 4), ("swin_tiny_patch4_window7_224", 384, 14)],
)
def test_features_of_stage_three(name, channels, side):
    model = build_backbone(name, 2).eval()
    size = 224 if name.startswith("swin") else 64
    features = stage_features(model, torch.zeros(1, 3, size, size), 3)
    assert features.shape == (1, channels, side, side)
    assert stage_channels(model, 3) == channels


def test_unknown_names_and_stages():
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        build_backbone("resnet-18", 2)
    with pytest.raises(UserError, match="stages 1 to 4"):
        stage_channels(build_backbone("resnet18", 2), 5)
