"""Classifiers by name and by file. Nothing is downloaded: weights are made here and put where they would lie."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import _hub
from torch import Tensor, nn
from torchvision import models

from pretrain.backbones import BackboneCard, build_backbone, load_backbone
from pretrain.console import UserError
from pretrain.files import sha256
from wsol.maps.classifiers import load_classifier, untrained_like

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def random_state(model: nn.Module, seed: int = 1) -> dict[str, Tensor]:
    """Weights for a network, of which no two networks have the same."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(value.shape, generator=generator) * 0.05 if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }


def assert_holds(model: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert not model.training


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_an_export_is_loaded_with_its_card(checkpoint: Path) -> None:
    expected, card = load_backbone(checkpoint)
    for source in (checkpoint, str(checkpoint), checkpoint.with_suffix("")):
        model, found = load_classifier(source)
        assert found == card
        assert_holds(model, expected.state_dict())
    with pytest.raises(UserError, match="leave out --arch resnet18"):
        load_classifier(checkpoint, "resnet18")


@pytest.mark.parametrize(
    ("wrapping", "arch"),
    [
        ("bare", "timm:resnet18"),
        ("state_dict", "torchvision:resnet18"),
        ("model", "resnet18"),
        ("module", "timm:resnet18"),
        ("prefix", "torchvision:resnet18"),
        ("safetensors", "timm:resnet18"),
        ("safetensors", "torchvision:resnet18"),
        ("trainer", "timm:resnet18"),
    ],
)
def test_a_file_with_the_name_of_its_architecture(
    tmp_path: Path, wrapping: str, arch: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = random_state(models.resnet18(num_classes=7))
    path = tmp_path / ("w.safetensors" if wrapping == "safetensors" else "w.pth")
    if wrapping == "safetensors":
        save_file(weights, path)
    else:
        contents = {
            "bare": weights,
            "state_dict": {"epoch": 3, "state_dict": weights},
            "model": {"model": weights},
            "module": {"state_dict": {f"module.{name}": value for name, value in weights.items()}},
            "prefix": {"state_dict": {f"model.{name}": value for name, value in weights.items()}},
            "trainer": {"args": argparse.Namespace(lr=0.1), "state_dict": weights},
        }
        saved(path, contents[wrapping])
    model, card = load_classifier(path, arch)
    assert_holds(model, weights)
    assert card == BackboneCard(
        arch=arch.removeprefix("timm:"), classes=tuple("0123456"), input_size=(224, 224), sha256=sha256(path)
    )
    assert (card.mean, card.std) == IMAGENET
    assert capsys.readouterr().err == (
        f"warning: {path} has no card: its images are taken to want normalisation by mean {IMAGENET[0]} and std "
        f"{IMAGENET[1]}\n"
    )


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".pth.tar"])
def test_suffixes_of_files(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path / f"w{suffix}", build_backbone("cifar_resnet20", 3).state_dict())
    model, card = load_classifier(path, "cifar_resnet20")
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert card.classes == ("0", "1", "2")
    with pytest.raises(UserError, match="do not say which network they are of; name it, such as --arch timm:resnet50"):
        load_classifier(path)


@pytest.mark.parametrize(
    ("arch", "settings", "size"),
    [
        ("torchvision:vit_b_32", {}, 224),
        ("torchvision:mobilenet_v2", {}, 224),
        ("torchvision:squeezenet1_1", {}, 224),
        ("torchvision:shufflenet_v2_x0_5", {}, 224),
        ("torchvision:efficientnet_b1", {}, 240),
        ("torchvision:inception_v3", {"aux_logits": True, "init_weights": False}, 299),
        ("torchvision:inception_v3", {"aux_logits": False, "init_weights": False}, 299),
    ],
)
def test_heads_of_all_kinds_are_found(tmp_path: Path, arch: str, settings: dict[str, Any], size: int) -> None:
    given = models.get_model(arch.removeprefix("torchvision:"), num_classes=4, **settings)
    path = saved(tmp_path / "w.pth", given.state_dict())
    model, card = load_classifier(path, arch)
    assert_holds(model, given.state_dict())
    assert card.classes == ("0", "1", "2", "3")
    assert card.input_size == (size, size)
    assert getattr(model, "transform_input", True)
    control = untrained_like(card)
    assert control(torch.zeros(1, 3, size, size)).shape == (1, 4)
    assert not control.training


@pytest.mark.parametrize("arch", ["levit_128s", "resnetv2_50", "deit_tiny_distilled_patch16_224"])
def test_heads_of_timms_networks_are_found(tmp_path: Path, arch: str) -> None:
    given = timm.create_model(arch, num_classes=4)  # two heads with norms, a convolution, two heads
    model, card = load_classifier(saved(tmp_path / "w.pth", given.state_dict()), arch)
    assert_holds(model, given.state_dict())
    assert card.classes == ("0", "1", "2", "3")


def test_networks_for_one_image_size_are_built_for_theirs(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", timm.create_model("test_vit", num_classes=2).state_dict())
    model, card = load_classifier(path, "timm:test_vit")
    assert card.input_size == (160, 160)
    assert model(torch.zeros(1, 3, 160, 160)).shape == (1, 2)


def test_files_that_do_not_fit_are_one_line_and_say_what(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", models.resnet18(num_classes=7).state_dict())
    wrong = {
        "resnet34": r"not the weights of resnet34 \(tensors \d+ missing: layer1.2.conv1.weight, .*\); set --arch",
        "torchvision:resnet50": r"not the weights of torchvision:resnet50 \(tensors .* of another shape: .*set --arch",
        "timm:mobilenetv2_100": "holds no classifier.weight, the head of mobilenetv2_100",
        "torchvision:resnet19": "torchvision:resnet19: torchvision has no such classifier; did you mean 'resnet1",
        "timm:resnet19": "unknown backbone 'resnet19'; did you mean 'resnet1",
    }
    for arch, message in wrong.items():
        with pytest.raises(UserError, match=message) as caught:
            load_classifier(path, arch)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="absent.pth: no such file"):
        load_classifier(tmp_path / "absent.pth", "resnet18")
    with pytest.raises(UserError, match="what it is of is known; leave out --arch resnet18"):
        load_classifier("torchvision:resnet18", "resnet18")
    with pytest.raises(UserError, match="resnet18: no such file; .* write timm:resnet18 or torchvision:resnet18"):
        load_classifier("resnet18")
    with pytest.raises(UserError, match=r"absent\.safetensors: no such file; name an exported backbone"):
        load_classifier(tmp_path / "absent.safetensors")
    (tmp_path / "w.pth").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"w\.pth: not a file of weights, or a damaged one"):
        load_classifier(path, "resnet18")


def _put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Any, content: dict[str, Tensor]) -> Path:
    """Put weights where torchvision looks before it downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    path = tmp_path / "hub" / "checkpoints" / Path(weights.url).name
    path.parent.mkdir(parents=True, exist_ok=True)
    return saved(path, content)


def test_torchvisions_own_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = models.ResNet50_Weights
    contents = {weights.name: random_state(models.resnet50(), seed) for seed, weights in enumerate(known)}
    paths = {name: _put(tmp_path, monkeypatch, known[name], content) for name, content in contents.items()}
    for source, name in [("resnet50", "IMAGENET1K_V2"), ("resnet50.IMAGENET1K_V1", "IMAGENET1K_V1")]:
        model, card = load_classifier(f"torchvision:{source}")
        assert_holds(model, contents[name])
        assert card == BackboneCard(
            arch="torchvision:resnet50",
            classes=tuple(map(str, range(1000))),
            method="torchvision",
            branch=name,
            sha256=sha256(paths[name]),
        )
    with pytest.raises(UserError, match="resnet50.IMAGENET1K_V3: no such weights; did you mean 'IMAGENET1K_V"):
        load_classifier("torchvision:resnet50.IMAGENET1K_V3")
    with pytest.raises(UserError, match="torchvision has no such classifier"):
        load_classifier("torchvision:resnet-50")


def test_torchvisions_transforms_give_the_image_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = models.inception_v3(init_weights=False)
    _put(tmp_path, monkeypatch, models.Inception_V3_Weights.DEFAULT, random_state(network))
    model, card = load_classifier("torchvision:inception_v3")
    assert card.input_size == (299, 299)
    assert (card.mean, card.std) == IMAGENET
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 299, 299)).shape == (1, 1000)


def test_a_failing_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **settings: Any) -> None:
        raise URLError("no route\nto host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(
        UserError, match="weights cannot be downloaded .*resnet18-f37072fd.pth where there is"
    ) as caught:
        load_classifier("torchvision:resnet18")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(UserError, match=r"resnet18\.\w+: its weights cannot be downloaded") as caught:
        load_classifier("timm:resnet18")
    assert "\n" not in str(caught.value)


def test_the_control_is_built_for_the_cards_image_size(tmp_path: Path) -> None:
    config = {"input_size": (3, 64, 64), "mean": (0.5, 0.5, 0.5)}
    network = timm.create_model("deit_tiny_patch16_224", num_classes=5, img_size=64, pretrained_cfg_overlay=config)
    _hub.save_for_hf(network, tmp_path / "saved", model_args={"img_size": 64}, safe_serialization=True)
    _, card = load_classifier(f"local-dir:{tmp_path / 'saved'}")
    assert untrained_like(card)(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize("prefix", ["timm:local-dir:", "local-dir:"])
def test_a_folder_as_timm_saves_it(tmp_path: Path, prefix: str) -> None:
    config = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 0.5), "input_size": (3, 96, 128)}
    network = timm.create_model("test_resnet", num_classes=5, pretrained_cfg_overlay=config)
    _hub.save_for_hf(network, tmp_path / "saved", safe_serialization=True)
    model, card = load_classifier(f"{prefix}{tmp_path / 'saved'}")
    assert_holds(model, network.state_dict())
    assert card.arch == "test_resnet"
    assert card.classes == ("0", "1", "2", "3", "4")
    assert (card.mean, card.std, card.input_size) == ((0.5, 0.5, 0.5), (0.25, 0.5, 0.5), (96, 128))
    assert (card.method, card.sha256) == ("timm", sha256(tmp_path / "saved" / "model.safetensors"))
    control = untrained_like(card)
    assert control(torch.zeros(1, 3, 96, 128)).shape == (1, 5)
    assert not torch.equal(control.conv1[0].weight, network.conv1[0].weight)


def test_timms_names_with_and_without_a_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    create, asked = timm.create_model, []

    def offline(name: str, pretrained: bool = False, **settings: Any) -> nn.Module:
        asked.append((name, pretrained))
        return create(name, pretrained=False, **settings)

    monkeypatch.setattr(timm, "create_model", offline)
    _, card = load_classifier("timm:vit_tiny_patch16_224")
    _, same = load_classifier(f"timm:vit_tiny_patch16_224.{card.branch}")
    assert asked == [("vit_tiny_patch16_224.augreg_in21k_ft_in1k", True)] * 2
    assert card == same
    assert (card.arch, card.branch, card.method) == ("vit_tiny_patch16_224", "augreg_in21k_ft_in1k", "timm")
    assert (card.mean, card.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # and not ImageNet's
    assert len(card.classes) == 1000
    with pytest.raises(UserError, match="nor one of timm's pretrained networks"):
        load_classifier("timm:resnet19")


def test_networks_of_other_channels_are_refused(tmp_path: Path) -> None:
    config = {"mean": (0.5,), "std": (0.5,), "input_size": (1, 64, 64)}
    network = timm.create_model("test_resnet", num_classes=5, in_chans=1, pretrained_cfg_overlay=config)
    _hub.save_for_hf(network, tmp_path / "saved", model_args={"in_chans": 1}, safe_serialization=True)
    with pytest.raises(UserError, match="takes images of 1 channels, not of 3"):
        load_classifier(f"local-dir:{tmp_path / 'saved'}")
