"""The name map against the names that the frameworks' own models have, and the files that conversion writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from networks import randomised

from pretrain.backbones import BackboneCard, build_backbone, export_backbone
from pretrain.console import UserError
from transfer.convert import convert, read_converted, save, target_name
from transfer.layouts import COUNTER


def detectron2_names(arch: str, head: str) -> dict[str, torch.Size]:
    """Return {name: shape} of the pretrained part of Detectron2's real detector."""
    from transfer.d2.config import backbone_config
    from transfer.d2.features import build_model

    cfg = backbone_config(BackboneCard(arch=arch, classes=()), head)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    prefix = "backbone.bottom_up." if head == "fpn" else ("backbone.", "roi_heads.res5.")
    return {
        name: tensor.shape
        for name, tensor in model.state_dict().items()
        if name.startswith(prefix) and not name.startswith("roi_heads.res5.norm.")
    }


def tensors_of(arch: str) -> dict[str, torch.Tensor]:
    """Return tensors of timm's names and shapes, with anything in them."""
    with torch.device("meta"):
        model = timm.create_model(arch)
    return {name: torch.empty(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101"])
@pytest.mark.parametrize("head", ["c4", "fpn"])
def test_names_are_detectron2s(arch: str, head: str) -> None:
    converted = convert(tensors_of(arch), "detectron2", head=head)
    assert {name: tensor.shape for name, tensor in converted.state_dict.items()} == detectron2_names(arch, head)
    assert converted.report.left_over == ("fc.weight", "fc.bias")
    assert converted.report.missing == ()


def test_r50_c4_has_318_tensors() -> None:
    """53 convolutions and as many BatchNorms of five tensors, 53 of which are counters."""
    names = convert(tensors_of("resnet50")).state_dict
    assert len(names) == 318
    assert sum(name.endswith(COUNTER) for name in names) == 53


@pytest.mark.parametrize(
    ("name", "detectron2", "mmdet"),
    [
        ("conv1.weight", "backbone.stem.conv1.weight", "backbone.conv1.weight"),
        ("bn1.running_var", "backbone.stem.conv1.norm.running_var", "backbone.bn1.running_var"),
        ("layer1.0.bn3.bias", "backbone.res2.0.conv3.norm.bias", "backbone.layer1.0.bn3.bias"),
        ("layer3.0.downsample.0.weight", "backbone.res4.0.shortcut.weight", "backbone.layer3.0.downsample.0.weight"),
        (
            "layer4.0.downsample.1.bias",
            "roi_heads.res5.0.shortcut.norm.bias",
            "roi_head.shared_head.layer4.0.downsample.1.bias",
        ),
    ],
)
def test_name_map_for_c4(name: str, detectron2: str, mmdet: str) -> None:
    assert target_name(name, "detectron2", "c4") == detectron2
    assert target_name(name, "mmdet", "c4") == mmdet


def test_torchvision_loads_it_whole() -> None:
    source = randomised("resnet18")
    converted = convert(source, "torchvision")
    torchvision.models.resnet18(num_classes=10).load_state_dict(converted.state_dict)
    assert converted.report.left_over == ()


def test_unknown_target_and_head() -> None:
    with pytest.raises(UserError, match="did you mean 'detectron2'"):
        convert({}, "detectron")
    with pytest.raises(UserError, match="head 'fpm' is unknown; did you mean 'fpn'"):
        convert({}, head="fpm")


def test_saved_and_read_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    card = BackboneCard(arch="resnet18", classes=("a", "b"), method="automix", branch="teacher", mean=(0.1, 0.2, 0.3))
    card = export_backbone(build_backbone("resnet18", 2), card, tmp_path / "teacher")
    converted = convert(tmp_path / "teacher.safetensors", "detectron2", head="fpn")
    path = save(converted, tmp_path / "out.pth", {"max_abs_diff": {"layer1": 0.0}, "passed": True})

    plain = torch.load(path, weights_only=True)
    assert plain.keys() == converted.state_dict.keys()
    written = json.loads(path.with_suffix(".json").read_text())
    assert (written["target"], written["head"], written["mean"]) == ("detectron2", "fpn", [0.1, 0.2, 0.3])
    assert written["source"] == str(tmp_path / "teacher.safetensors")
    assert written["verification"]["passed"] is True

    again = read_converted(path, "detectron2")
    assert (again.card, again.head, again.target) == (card, "fpn", "detectron2")
    assert all(torch.equal(again.state_dict[name], tensor) for name, tensor in converted.state_dict.items())

    with pytest.raises(UserError, match=r"converted for detectron2; .*convert_to_mmdet\.py"):
        read_converted(path, "mmdet")
    torch.save(plain | {"backbone.bottom_up.stem.conv1.weight": torch.zeros(64, 3, 7, 7)}, path)
    with pytest.raises(UserError, match="SHA-256 is not the one in its JSON"):
        read_converted(path, "detectron2")
    path.with_suffix(".json").write_text(json.dumps({"arch": "resnet18"}))
    with pytest.raises(UserError, match=r"not written by tools/convert_to_d2\.py"):
        read_converted(path, "detectron2")
    with pytest.raises(UserError, match="no such converted file"):
        read_converted(tmp_path / "teacher.safetensors", "detectron2")


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    converted = convert(randomised("resnet18"))
    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(converted, tmp_path / "out.pth")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"ends in \.pth"):
        save(converted, tmp_path / "out.pkl")
