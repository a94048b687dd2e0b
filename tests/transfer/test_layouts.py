"""Source layouts: every wrapper leads to the same names, and what no detector can hold is refused by its key."""

from __future__ import annotations

import collections
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from networks import randomised
from safetensors.torch import save_file

from pretrain.backbones import BackboneCard, build_backbone, export_backbone
from pretrain.console import UserError
from transfer.layouts import read_source

CARD = BackboneCard(arch="resnet18", classes=("a", "b"), method="automix", branch="teacher", mean=(0.1, 0.2, 0.3))


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return randomised("resnet18")


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "backbone.",
        "module.backbone.",
        "module.encoder_q.",
        "backbone_q.",
        "timm_model.",
        "_feature_blocks.",
    ],
)
@pytest.mark.parametrize("container", [(), ("state_dict",), ("model",), ("model", "state_dict")])
def test_wrappers_lead_to_the_same_names(weights: dict, prefix: str, container: tuple[str, ...]) -> None:
    content: dict = {prefix + name: tensor for name, tensor in weights.items()}
    for key in container:
        content = {key: content, "epoch": 3}
    source = read_source(content)
    assert source.weights.keys() == weights.keys()
    assert all(torch.equal(source.weights[name], weights[name]) for name in weights)
    assert source.card.arch == "resnet18"
    assert source.other_parts == {}
    assert not source.preprocessing_known


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_architecture_is_told_from_the_tensors(arch: str) -> None:
    assert read_source(on_meta(arch)).card.arch == arch


def on_meta(arch: str) -> dict:
    with torch.device("meta"):
        return timm.create_model(arch).state_dict()


def two_branches(weights: dict, student: str, teacher: str) -> dict:
    content = {student + name: tensor for name, tensor in weights.items()}
    content |= {teacher + name: tensor + 1 for name, tensor in weights.items()}
    return {"state_dict": content | {"mix_block.query.weight": torch.zeros(2), "mix_block.key.bias": torch.zeros(1)}}


@pytest.mark.parametrize(
    ("student", "teacher", "usual"),
    [("backbone_q.", "backbone_k.", "teacher"), ("module.encoder_q.", "module.encoder_k.", "student")],
)
def test_branches(weights: dict, student: str, teacher: str, usual: str) -> None:
    content = two_branches(weights, student, teacher)
    name = "layer1.0.conv1.weight"
    found = {branch: read_source(content, branch=branch) for branch in ("student", "teacher")}
    assert torch.equal(found["student"].weights[name], weights[name])
    assert torch.equal(found["teacher"].weights[name], weights[name] + 1)
    assert torch.equal(read_source(content).weights[name], found[usual].weights[name])
    assert read_source(content).card.branch == usual
    other = (teacher if usual == "student" else student).split(".")[0] + "."
    if other != "module.":
        assert read_source(content).other_parts == {other: len(weights), "mix_block.": 2}


def test_two_unknown_branches_are_not_guessed(weights: dict) -> None:
    with pytest.raises(UserError, match=r"several backbones in it \(one\., two\.\).*--branch"):
        read_source(two_branches(weights, "one.", "two."))


def test_branch_that_is_not_there(weights: dict) -> None:
    with pytest.raises(UserError, match="no teacher in it"):
        read_source({"module." + name: tensor for name, tensor in weights.items()}, branch="teacher")


def test_export_brings_its_card(tmp_path: Path) -> None:
    model = build_backbone("resnet18", 2)
    card = export_backbone(model, CARD, tmp_path / "teacher")
    source = read_source(tmp_path / "teacher.safetensors")
    assert source.card == card
    assert source.preprocessing_known
    with pytest.raises(UserError, match="card says branch teacher, --branch says student"):
        read_source(tmp_path / "teacher.safetensors", branch="student")
    with pytest.raises(UserError, match="tensors are those of resnet18, not of resnet50"):
        read_source(tmp_path / "teacher.safetensors", arch="resnet50")
    export_backbone(model, replace(CARD, stem="cifar"), tmp_path / "cifar")
    with pytest.raises(UserError, match="stem 'cifar'.*7x7"):
        read_source(tmp_path / "cifar.safetensors")


def test_safetensors_without_a_card(tmp_path: Path, weights: dict) -> None:
    save_file(weights, tmp_path / "model.safetensors")
    source = read_source(tmp_path / "model.safetensors")
    assert source.card.arch == "resnet18"
    assert len(source.card.sha256) == 64


def without(weights: dict, *starts: str) -> dict:
    return {name: tensor for name, tensor in weights.items() if not name.startswith(starts)}


def test_refusals_name_the_key(weights: dict) -> None:
    cases = [
        (without(weights, "layer4."), r"layer4\.0\.conv1\.weight is missing, which resnet18 has"),
        (without(weights, "layer2.1.bn2.running_var"), r"layer2\.1\.bn2\.running_var is missing"),
        (weights | {"conv1.weight": torch.zeros(64, 3, 3, 3)}, r"conv1\.weight is 64x3x3x3, a CIFAR stem"),
        (weights | {"layer1.0.se.fc.weight": torch.zeros(1)}, r"layer1\.0\.se\.fc\.weight has no place in resnet18"),
        (weights | {"bn1.bias": torch.zeros(65)}, r"bn1\.bias is 65, in resnet18 it is 64"),
        (on_meta("resnet26d"), r"conv1\.0\.weight belongs to a deep stem"),
        (on_meta("wide_resnet50_2"), r"layer1\.0\.conv2\.weight is 128x128x3x3"),
        ({"blocks.0.attn.qkv.weight": torch.zeros(1)}, "no ResNet in it"),
        ({"epoch": 3, "args": {}}, "no weights found under state_dict or model"),
    ]
    for content, message in cases:
        with pytest.raises(UserError, match=message):
            read_source(content)


def test_arch_that_contradicts(weights: dict) -> None:
    with pytest.raises(UserError, match="tensors are those of resnet18, not of resnet34"):
        read_source(weights, arch="resnet34")
    with pytest.raises(UserError, match="--arch resnet81.*did you mean 'resnet18'"):
        read_source(weights, arch="resnet81")


def test_counters_may_be_absent(weights: dict) -> None:
    old = {name: tensor for name, tensor in weights.items() if not name.endswith("num_batches_tracked")}
    assert read_source(old).card.arch == "resnet18"


def test_files(tmp_path: Path, weights: dict) -> None:
    torch.save({"state_dict": weights}, tmp_path / "good.pth.tar")
    assert read_source(tmp_path / "good.pth.tar").card.arch == "resnet18"

    torch.save({"state_dict": weights, "queue": collections.deque([1])}, tmp_path / "code.pth")
    with pytest.raises(UserError, match=r"would run collections\.deque; .*save the state_dict alone"):
        read_source(tmp_path / "code.pth")

    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(UserError, match=r"text\.pth: not a torch checkpoint"):
        read_source(tmp_path / "text.pth")

    whole = (tmp_path / "good.pth.tar").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    assert not zipfile.is_zipfile(tmp_path / "half.pth")
    with pytest.raises(UserError, match=r"half\.pth: not a torch checkpoint, or a damaged one"):
        read_source(tmp_path / "half.pth")

    (tmp_path / "half.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(UserError, match=r"half\.safetensors: not a safetensors file"):
        read_source(tmp_path / "half.safetensors")

    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds a list"):
        read_source(tmp_path / "list.pth")
    with pytest.raises(UserError, match="no such checkpoint"):
        read_source(tmp_path / "nowhere.pth")
