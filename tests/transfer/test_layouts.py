"""Source layouts: every wrapper leads to the same names, and what no detector can hold is refused by its key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from networks import randomised, skeleton
from safetensors.torch import save_file

from pretrain.backbones import BackboneCard, build_backbone, export_backbone
from pretrain.console import UserError
from transfer.architectures import RESNETS
from transfer.layouts import read_source
from transfer.names import framework_names

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


@pytest.mark.parametrize("arch", RESNETS)
def test_architecture_is_told_from_the_tensors(arch: str) -> None:
    assert read_source(skeleton(arch)).card.arch == arch


def two_branches(weights: dict, student: str, teacher: str) -> dict:
    content = {student + name: tensor for name, tensor in weights.items()}
    content |= {teacher + name: tensor + 1 for name, tensor in weights.items()}
    return {"state_dict": content | {"mix_block.query.weight": torch.zeros(2), "mix_block.key.bias": torch.zeros(1)}}


@pytest.mark.parametrize(
    ("student", "teacher", "usual"),
    [
        ("backbone_q.", "backbone_k.", "teacher"),  # AutoMix in OpenMixup
        ("student.", "teacher.", "teacher"),  # our own
        ("student.module.backbone.", "teacher.backbone.", "teacher"),  # DINO
        ("module.encoder_q.", "module.encoder_k.", "student"),  # MoCo
        ("module.base_encoder.", "module.momentum_encoder.", "student"),  # MoCo v3
        ("backbone.", "momentum_backbone.", "student"),  # solo-learn
    ],
)
def test_branches(weights: dict, student: str, teacher: str, usual: str) -> None:
    content = two_branches(weights, student, teacher)
    name = "layer1.0.conv1.weight"
    found = {branch: read_source(content, branch=branch) for branch in ("student", "teacher")}
    assert torch.equal(found["student"].weights[name], weights[name])
    assert torch.equal(found["teacher"].weights[name], weights[name] + 1)
    assert torch.equal(read_source(content).weights[name], found[usual].weights[name])
    assert read_source(content).card.branch == usual
    parts = dict(read_source(content).other_parts)
    assert parts.pop("state_dict.mix_block.") == 2
    assert [*parts.values()] == [len(weights)]


def test_two_unknown_branches_are_not_guessed(weights: dict) -> None:
    with pytest.raises(UserError, match=r"several networks in it \(state_dict\.one\., state_dict\.two\.\).*--branch"):
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
    assert read_source(tmp_path / "teacher.safetensors", branch="teacher").card == card
    with pytest.raises(UserError, match="card says branch teacher, --branch says student"):
        read_source(tmp_path / "teacher.safetensors", branch="student")
    with pytest.raises(UserError, match="its card says resnet18, --arch says resnet50"):
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
        (skeleton("resnet26d"), r"conv1\.0\.weight belongs to a deep stem"),
        (skeleton("wide_resnet50_2"), r"layer1\.0\.conv2\.weight is 128x128x3x3"),
        ({"blocks.0.attn.qkv.weight": torch.zeros(1)}, "no ResNet, ResNeXt or Swin transformer in it"),
        ({"epoch": 3, "args": {}}, "no weights of a network alone; it holds epoch, args"),
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


@pytest.mark.parametrize(
    ("keys", "layout"),
    [
        (("classy_state_dict", "base_model", "model", "trunk"), "_feature_blocks."),  # VISSL
        (("state_dict_ema",), ""),  # timm: the average is what it evaluates
        (("ema_state_dict",), "module.backbone."),  # OpenMMLab
    ],
)
def test_nested_dictionaries_are_part_of_the_prefix(weights: dict, keys: tuple[str, ...], layout: str) -> None:
    inner: dict = {layout + name: tensor for name, tensor in weights.items()}
    for key in reversed(keys):
        inner = {key: inner}
    plain = {
        "model" if "classy_state_dict" in keys else "state_dict": {},
        "optimizer": {"state": {0: {"exp": torch.zeros(3)}}},
    }
    source = read_source(inner | plain)
    assert source.network.prefix == ".".join(keys) + "." + layout
    assert source.other_parts == {"optimizer.": 1}
    assert all(torch.equal(source.weights[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    "keys", [("state_dict", "state_dict_ema"), ("model", "model_ema"), ("state_dict", "ema_state_dict")]
)
def test_timm_and_openmmlab_take_the_average(weights: dict, keys: tuple[str, str]) -> None:
    content = {keys[0]: weights, keys[1]: {name: tensor + 1 for name, tensor in weights.items()}}
    assert read_source(content).card.branch == "teacher"
    assert torch.equal(read_source(content).weights["bn1.bias"], weights["bn1.bias"] + 1)
    assert torch.equal(read_source(content, branch="student").weights["bn1.bias"], weights["bn1.bias"])


def test_detectron2_names_come_back(weights: dict) -> None:
    """A C4 detector, an FPN detector, and MoCo's pickles, which have bare names."""
    for head, prefixes in (
        ("c4", ("backbone.", "roi_heads.")),
        ("fpn", ("backbone.bottom_up.",) * 2),
        (None, ("", "")),
    ):
        names = framework_names("resnet18", "detectron2")
        content = {prefixes[inner.startswith("res5")] + inner: weights[name] for name, inner in names.items()}
        own = {"roi_heads.res5.norm.weight": torch.ones(512)} if head == "c4" else {}
        other = {"proposal_generator.rpn_head.conv.weight": torch.zeros(1)} if head else {}
        source = read_source({"model": {**content, **own, **other}, "iteration": 3})
        assert source.network.framework == "detectron2"
        assert source.left_over == tuple(f"model.{name}" for name in own)
        assert source.other_parts == ({"model.proposal_generator.": 1} if head else {})
        assert source.weights.keys() == {name for name in weights if not name.startswith("fc.")}
        assert all(torch.equal(tensor, weights[name]) for name, tensor in source.weights.items())


def test_numbers_that_cannot_be_right(weights: dict) -> None:
    broken = weights["layer3.1.conv2.weight"].clone()
    broken[0, 0, 0, 0] = torch.nan
    cases = [
        ({"layer3.1.conv2.weight": broken}, r"layer3\.1\.conv2\.weight holds NaN or infinity"),
        ({"bn1.running_var": -weights["bn1.running_var"]}, r"bn1\.running_var holds a negative variance"),
        ({"conv1.weight": weights["conv1.weight"].char()}, r"conv1\.weight is of type int8"),
    ]
    for change, message in cases:
        with pytest.raises(UserError, match=message):
            read_source(weights | change)


def test_half_precision_is_widened_and_said(weights: dict) -> None:
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    source = read_source(half)
    assert source.notes == ("float16 turned into float32",)
    assert {tensor.dtype for tensor in source.weights.values()} == {torch.float32, torch.int64}
    assert all(torch.equal(source.weights[name], tensor.to(weights[name].dtype)) for name, tensor in half.items())


def test_projector_is_left_over(weights: dict) -> None:
    """MoCo v2 has two layers where the classifier was."""
    content = without(weights, "fc.") | {"fc.0.weight": torch.zeros(512, 512), "fc.2.weight": torch.zeros(128, 512)}
    source = read_source({f"module.encoder_q.{name}": tensor for name, tensor in content.items()})
    assert source.left_over == ("module.encoder_q.fc.0.weight", "module.encoder_q.fc.2.weight")


def test_training_state_is_refused(tmp_path: Path, weights: dict) -> None:
    torch.save({"method": weights, "step": 3, "settings": {}}, tmp_path / "state.pth")
    with pytest.raises(UserError, match=r"state\.pth: no weights of a network alone.*export/\*\.safetensors"):
        read_source(tmp_path / "state.pth")
