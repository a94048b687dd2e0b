"""The name map against the names that the frameworks' own models have, and the files that conversion writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import torchvision
from networks import randomised, skeleton

from pretrain.backbones import BackboneCard, build_backbone, export_backbone
from pretrain.console import UserError
from transfer.architectures import COUNTER, RESNETS
from transfer.convert import Converted, convert
from transfer.files import read_converted, save
from transfer.layouts import read_source
from transfer.names import framework_names

SLIM = "slim_resnet18"


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


def mmdet_names(arch: str, head: str) -> dict[str, torch.Size]:
    """Return {name: shape} of MMDetection's own backbone, with the last stage where a detector of this kind has it."""
    from transfer.compat import prepare_mmcv

    prepare_mmcv()
    from mmdet.models.backbones import ResNet, ResNeXt

    words = re.fullmatch(r"(slim_)?resnex?t(\d+)(?:_(\d+)x(\d+)d)?", arch)
    slim, depth, groups, base_width = words.groups()  # type: ignore[union-attr]
    with torch.device("meta"):
        if groups:
            model = ResNeXt(depth=int(depth), groups=int(groups), base_width=int(base_width))
        else:
            model = ResNet(int(depth), base_channels=32 if slim else 64, stem_channels=64)
    last = "roi_head.shared_head." if head == "c4" else "backbone."
    return {
        (last if name.startswith("layer4.") else "backbone.") + name: tensor.shape
        for name, tensor in model.state_dict().items()
    }


@pytest.mark.parametrize(
    ("target", "arch"),
    [
        (target, arch)
        for target in ("detectron2", "mmdet")
        for arch in RESNETS
        if (target, arch) != ("detectron2", SLIM)
    ],
)
@pytest.mark.parametrize("head", ["c4", "fpn"])
def test_names_are_the_frameworks_own(arch: str, head: str, target: str) -> None:
    converted = convert(skeleton(arch), target, head=head)
    own = detectron2_names(arch, head) if target == "detectron2" else mmdet_names(arch, head)
    assert {name: tensor.shape for name, tensor in converted.state_dict.items()} == own
    assert converted.report.left_over == ("fc.weight", "fc.bias")
    assert converted.report.missing == ()


@pytest.mark.parametrize("head", ["c4", "fpn"])
def test_detectron2_has_no_slim_resnet(head: str) -> None:
    """Its own builder refuses one; without the refusal here that would come behind the conversion."""
    told = "first stage of slim_resnet18 has 32 channels, and Detectron2 asserts 64 in a ResNet-18; .*convert_to_mmdet"
    with pytest.raises(UserError, match=told):
        convert(skeleton(SLIM), "detectron2", head=head)
    with pytest.raises(AssertionError, match="RES2_OUT_CHANNELS = 64 for R18/R34"):
        detectron2_names(SLIM, head)
    assert len(convert(skeleton(SLIM), "torchvision").state_dict) == 128


def test_r50_c4_has_318_tensors() -> None:
    """53 convolutions and as many BatchNorms of five tensors, 53 of which are counters."""
    names = convert(skeleton("resnet50")).state_dict
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
    assert framework_names("resnet50", "detectron2", "c4")[name] == detectron2
    assert framework_names("resnet50", "mmdet", "c4")[name] == mmdet


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
    with pytest.raises(UserError, match=r"not written by the converter"):
        read_converted(path, "detectron2")
    with pytest.raises(UserError, match="no such converted file"):
        read_converted(tmp_path / "nowhere.pth", "detectron2")
    with pytest.raises(UserError, match="not written by the converter"):
        read_converted(tmp_path / "teacher.safetensors", "detectron2")


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    converted = convert(randomised("resnet18"))
    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(UserError, match=r"out\.pth: the disk is full; make room"):
        save(converted, tmp_path / "out.pth")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"ends in \.pth, \.safetensors or \.pkl"):
        save(converted, tmp_path / "out.pt")
    (tmp_path / "own.yaml").write_text("MODEL: {}\n")
    with pytest.raises(UserError, match=r"own\.yaml: the converter would replace it"):
        save(converted, tmp_path / "own.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]


@pytest.fixture(scope="module")
def r18() -> Converted:
    return convert(randomised("resnet18"), "detectron2", head="fpn")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pkl"])
def test_formats(tmp_path: Path, r18: Converted, suffix: str) -> None:
    """Each is read again as it was, by this toolkit and by Detectron2's own checkpointer."""
    from detectron2.checkpoint import DetectionCheckpointer

    from transfer.d2.config import backbone_config
    from transfer.d2.features import build_model

    path = save(r18, tmp_path / f"out{suffix}")
    again = read_converted(path, "detectron2")
    assert again.state_dict.keys() == r18.state_dict.keys()
    assert all(torch.equal(again.state_dict[name], tensor) for name, tensor in r18.state_dict.items())
    assert read_source(path).card == r18.card
    if suffix == ".safetensors":
        return  # Detectron2 reads no such files
    model = build_model(backbone_config(r18.card, "fpn"))
    DetectionCheckpointer(model).load(str(path))
    own = model.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in r18.state_dict.items())


def test_yaml_holds_what_the_weights_decide(tmp_path: Path) -> None:
    """Read by Detectron2's own config reader over its defaults, as the _BASE_ of somebody else's config."""
    from detectron2.config import get_cfg

    weights = randomised("resnext50_32x4d")
    path = save(convert(weights, "detectron2", head="c4"), tmp_path / "out.pth")
    (tmp_path / "own.yaml").write_text('_BASE_: "out.yaml"\nMODEL:\n  WEIGHTS: "out.pth"\n')
    cfg = get_cfg()
    assert (cfg.INPUT.FORMAT, cfg.MODEL.PIXEL_STD, cfg.MODEL.RESNETS.STRIDE_IN_1X1) == ("BGR", [1.0, 1.0, 1.0], True)
    cfg.merge_from_file(str(tmp_path / "own.yaml"))
    assert cfg.INPUT.FORMAT == "RGB"
    assert cfg.MODEL.PIXEL_MEAN == [123.675, 116.28, 103.53]
    assert cfg.MODEL.PIXEL_STD == [58.395, 57.12, 57.375]
    resnets = cfg.MODEL.RESNETS
    assert (resnets.DEPTH, resnets.NUM_GROUPS, resnets.WIDTH_PER_GROUP) == (50, 32, 4)
    assert (resnets.RES2_OUT_CHANNELS, resnets.STRIDE_IN_1X1) == (256, False)
    assert "res5 in the RoI head (C4)" in path.with_suffix(".yaml").read_text()
    save(convert(weights, "mmdet", head="c4"), tmp_path / "mm.pth")
    assert not (tmp_path / "mm.yaml").exists()


def test_report_accounts_for_every_tensor() -> None:
    weights = randomised("resnet18")
    old = {name: tensor for name, tensor in weights.items() if not name.endswith(COUNTER)}
    content = {f"backbone_k.{name}": tensor for name, tensor in old.items()} | {"mix_block.query.bias": torch.zeros(1)}
    report = convert({"state_dict": content}).report
    assert report.loaded["state_dict.backbone_k.bn1.bias"] == "backbone.stem.conv1.norm.bias"
    assert report.left_over == ("state_dict.backbone_k.fc.weight", "state_dict.backbone_k.fc.bias")
    assert report.missing == tuple(name for name in weights if name.endswith(COUNTER))
    assert report.other_parts == {"state_dict.mix_block.": 1}
    number = len(report.loaded) + len(report.left_over) + sum(report.other_parts.values())
    assert number == len(content)
