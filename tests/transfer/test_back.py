"""From a detector back to a classification network: names, card, classifier, and the same numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from networks import randomised

from pretrain.backbones import BackboneCard, build_backbone, export_backbone, load_backbone
from pretrain.console import UserError
from transfer.command import convert_back_command, convert_command
from transfer.convert import convert, with_classifier
from transfer.files import save
from transfer.layouts import read_source
from transfer.verify import verify


@pytest.mark.parametrize(
    ("framework", "names", "arch"),
    [
        *(("detectron2", "detectron2", arch) for arch in ("resnet18", "resnet50", "resnext50_32x4d")),
        *(("mmdet", "torchvision", arch) for arch in ("resnet18", "resnet50", "resnext50_32x4d", "slim_resnet18")),
    ],
)
@pytest.mark.parametrize("head", ["c4", "fpn"])
def test_there_and_back(arch: str, head: str, framework: str, names: str) -> None:
    """The way back is compared with the network whose names the file has, filled by these."""
    weights = randomised(arch)
    detector = {"model": convert(weights, framework, head=head).state_dict}
    source = read_source(detector)
    assert source.network.framework == names
    back = convert(source, "torchvision")
    assert back.state_dict.keys() == {name for name in weights if not name.startswith("fc.")}
    assert all(torch.equal(tensor, weights[name]) for name, tensor in back.state_dict.items())
    outcome = verify(source, back, "torchvision")
    assert outcome.max_abs_diff == dict.fromkeys(["stem", "layer1", "layer2", "layer3", "layer4"], 0.0)
    broken = {**back.state_dict, "layer2.0.bn1.bias": back.state_dict["layer2.0.bn2.bias"]}
    assert not verify(source, type(back)(broken, back.card, back.report, back.target), "torchvision").passed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of tools/finetune_d2.py, as far as the way back reads it, and the export it started from."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    card = BackboneCard(arch="resnet18", classes=("ant", "bee"), method="automix", branch="teacher")
    export_backbone(build_backbone("resnet18", 2), card, folder / "teacher")
    from transfer.d2.config import backbone_config
    from transfer.d2.features import build_model

    cfg = backbone_config(BackboneCard(arch="resnet18", classes=(), std=(0.25, 0.25, 0.25)), "c4")
    cfg.DATASETS.TRAIN = ("voc_2007_trainval",)
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "run.json").write_text(json.dumps({"start": "automix teacher", "seed": 3}))
    model = build_model(cfg)
    wanted = convert(randomised("resnet18", seed=1), "detectron2", head="c4").state_dict
    model.load_state_dict(wanted, strict=False)
    torch.save({"model": model.state_dict(), "iteration": 7}, folder / "model_final.pth")
    return folder


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["convert_from_d2.py", *map(str, arguments)])
    convert_back_command("")


def test_exported_backbone_of_a_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    classifier = ("--classifier", run / "teacher.safetensors")
    command(monkeypatch, run / "model_final.pth", tmp_path / "out.safetensors", *classifier)
    printed = capsys.readouterr().out
    assert "from its card" in printed  # the preprocessing of config.yaml
    assert "res5.norm.weight" in printed  # C4's own norm is left over, and listed
    model, card = load_backbone(tmp_path / "out.safetensors")
    assert (card.classes, card.method, card.std) == (("ant", "bee"), "automix teacher", (0.25, 0.25, 0.25))
    assert (card.stride_style, card.channel_order) == ("pytorch", "RGB")
    assert card.training == {"fine-tuned on": ["voc_2007_trainval"], "seed": 3}
    # A classifier that torchvision builds, filled by hand: the fine-tuned backbone, the start's classifier.
    start, _ = load_backbone(run / "teacher.safetensors")
    reference = torchvision.models.resnet18(num_classes=2).eval()
    reference.load_state_dict({**randomised("resnet18", seed=1), **start.fc.state_dict(prefix="fc.")})
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model(image), reference(image))


def test_torchvisions_names_of_a_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(monkeypatch, run / "model_final.pth", tmp_path / "out.pth")
    keys = torchvision.models.resnet18().load_state_dict(
        torch.load(tmp_path / "out.pth", weights_only=True), strict=False
    )
    assert (keys.missing_keys, keys.unexpected_keys) == (["fc.weight", "fc.bias"], [])
    assert json.loads((tmp_path / "out.json").read_text())["verification"]["passed"] is True


def test_backbone_without_a_classifier_is_an_export_too(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(monkeypatch, run / "model_final.pth", tmp_path / "out.safetensors")
    model, card = load_backbone(tmp_path / "out.safetensors")
    assert card.classes == ()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 512)
    again = convert(tmp_path / "out.safetensors", "detectron2", head="c4")
    theirs = torch.load(run / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in again.state_dict.items())


def test_refusals(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"out\.bin: it ends in \.safetensors or \.pth"):
        command(monkeypatch, run / "model_final.pth", tmp_path / "out.bin")
    detector = read_source(run / "model_final.pth")
    with pytest.raises(UserError, match="no classifier in it"):
        with_classifier(detector, detector)
    foreign = with_classifier(detector, read_source(randomised("resnet18")))  # a file that names no classes
    assert foreign.card.classes == tuple("0123456789")
    with pytest.raises(UserError, match="it is resnet34, and .* is resnet18"):
        with_classifier(detector, read_source(randomised("resnet34")))
    values = yaml.safe_load((run / "config.yaml").read_text())
    values["MODEL"]["RESNETS"]["WIDTH_PER_GROUP"] = 65
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    (tmp_path / "run.json").write_bytes((run / "run.json").read_bytes())
    (tmp_path / "model_final.pth").write_bytes((run / "model_final.pth").read_bytes())
    with pytest.raises(UserError, match=r"config\.yaml: not the config of a fine-tuned detector of a known backbone"):
        read_source(tmp_path / "model_final.pth")
    assert not list(tmp_path.glob("out*"))


def mmdet_settings(tmp_path: Path, arch: str, **changes: object) -> Path:
    """Write what a run of tools/finetune_mmdet.py leaves beside its checkpoints, and a checkpoint of these weights."""
    settings = {
        "model.data_preprocessor.mean": [123.675, 116.28, 103.53],
        "model.data_preprocessor.std": [63.75, 63.75, 63.75],
        "model.data_preprocessor.bgr_to_rgb": True,
        "model.backbone.type": "ResNet",
        "model.backbone.depth": 50,
        "model.backbone.style": "pytorch",
        "train_dataloader.dataset.datasets.0.ann_file": "a.txt",
        "train_dataloader.dataset.datasets.1.ann_file": "b.txt",
        "val_dataloader.dataset.ann_file": "c.txt",
        **changes,
    }
    (tmp_path / "run.json").write_text(json.dumps({"start": "automix teacher", "seed": 3, "settings": settings}))
    head = "fpn" if arch.startswith("swin") else "c4"
    state = convert(randomised(arch), "mmdet", head=head).state_dict
    own = {"roi_head.shared_head.norm.weight": torch.zeros(1)}
    torch.save({"meta": {"iter": 7}, "state_dict": {**state, **own}}, tmp_path / "iter_7.pth")
    return tmp_path / "iter_7.pth"


def test_a_run_of_mmdetection_brings_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mmdet_settings(tmp_path, "resnet50")
    command(monkeypatch, path, tmp_path / "out.safetensors")
    model, card = load_backbone(tmp_path / "out.safetensors")
    assert (card.arch, card.method, card.std) == ("resnet50", "automix teacher", (0.25, 0.25, 0.25))
    assert card.training == {"fine-tuned on": ["a.txt", "b.txt"], "seed": 3}
    wanted = randomised("resnet50")
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in model.state_dict().items() if name[:2] != "fc")


@pytest.mark.parametrize(
    ("arch", "changes"),
    [
        (
            "resnext50_32x4d",
            {"model.backbone.type": "ResNeXt", "model.backbone.groups": 32, "model.backbone.base_width": 4},
        ),
        ("resnet18", {"model.backbone.depth": 18}),
        (
            "slim_resnet18",
            {"model.backbone.depth": 18, "model.backbone.base_channels": 32, "model.backbone.stem_channels": 64},
        ),
        ("swin_tiny_patch4_window7_224", {"model.backbone.type": "SwinTransformer"}),
    ],
)
def test_the_architecture_of_a_run_of_mmdetection(tmp_path: Path, arch: str, changes: dict[str, object]) -> None:
    source = read_source(mmdet_settings(tmp_path, arch, **changes))
    assert (source.card.arch, source.preprocessing_known) == (arch, True)


def test_the_channel_order_of_a_run_of_mmdetection(tmp_path: Path) -> None:
    path = mmdet_settings(tmp_path, "resnet50", **{"model.data_preprocessor.bgr_to_rgb": False})
    assert read_source(path).card.channel_order == "BGR"


def test_a_run_of_mmdetection_of_another_backbone_is_refused(tmp_path: Path) -> None:
    path = mmdet_settings(tmp_path, "resnet50", **{"model.backbone.depth": 26})
    with pytest.raises(UserError, match=r"run\.json: not the config of a fine-tuned detector of a known backbone"):
        read_source(path)


@pytest.mark.parametrize("out", ["teacher.pth", "teacher.safetensors", "sub/../teacher.pkl"])
def test_card_of_the_source_is_not_replaced(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("teacher.safetensors", "teacher.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    arguments = ["convert_to_d2.py", str(tmp_path / "teacher.safetensors"), str(tmp_path / out)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(UserError, match=r"teacher\.json would pass for the card of teacher\.safetensors; choose"):
        convert_command("detectron2")
    if not out.endswith(".pkl"):
        with pytest.raises(UserError, match=r"teacher\.json would pass for the card"):
            command(monkeypatch, tmp_path / "teacher.safetensors", tmp_path / out)
    assert (tmp_path / "teacher.json").read_bytes() == (run / "teacher.json").read_bytes()


def test_converted_file_brings_its_card(tmp_path: Path) -> None:
    path = save(convert(randomised("resnet18"), "detectron2", head="c4"), tmp_path / "out.pth")
    assert read_source(path).preprocessing_known
    path.with_suffix(".json").write_text(path.with_suffix(".json").read_text().replace("0.485", "0.5"))
    assert read_source(path).card.mean == (0.5, 0.456, 0.406)
