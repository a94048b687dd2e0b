"""The picture of all methods: its panels say what the mixes weigh, and what cannot be drawn is named."""

import sys
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from pretrain import mixups
from pretrain.backbones import BackboneCard, build_backbone, export_backbone
from pretrain.console import UserError
from pretrain.data.transforms import Normalise
from pretrain.gallery import panels, show_mixes
from pretrain.mixups import MixContext, training_context

TOOL = Path(__file__).parents[2] / "tools/show_mixes.py"


@pytest.fixture
def pictures(tmp_path):
    """Four files of one grey each, wide and tall."""
    paths = []
    for number, size in enumerate([(40, 32), (32, 40), (50, 33), (32, 32)]):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", size, (60 * number,) * 3).save(paths[-1])
    return paths


@pytest.fixture
def network(tmp_path):
    torch.manual_seed(0)
    classes = ("a", "b", "c")
    export_backbone(build_backbone("resnet10t", 3), BackboneCard(arch="resnet10t", classes=classes), tmp_path / "net")
    return str(tmp_path / "net.safetensors")


@pytest.mark.parametrize("name", [name for name, policy in mixups.POLICIES.items() if policy.mixes_images])
def test_labels_name_the_images_whose_pixels_show(name):
    """Image k is the constant k / 4: a panel's mean pixel is the mean of the images by the weights that it prints."""
    codes = torch.arange(4) / 4
    images = Normalise()((255 * codes).view(4, 1, 1, 1).expand(4, 3, 28, 28))
    context = MixContext(
        saliency=lambda images, targets: torch.ones(len(images), 28, 28),
        features=lambda images: torch.ones(len(images), 2, 7, 7),
        teacher=lambda images: images.mean((2, 3)),
        attention=training_context(nn.Identity(), F.cross_entropy).attention,
    )
    pairs = panels(mixups.build(name), images, torch.eye(4), context, (0.0, 0.3, 1.0))
    assert [len(pair) for pair in pairs] == [3, 3]
    for panel in (panel for pair in pairs for panel in pair):
        words = panel.label.split()
        said = {"ABCD".index(letter): float(weight) for letter, weight in zip(words[::2], words[1::2], strict=True)}
        assert sum(said.values()) == pytest.approx(1, abs=0.02)
        assert float(panel.image.mean()) == pytest.approx(sum(w * k / 4 for k, w in said.items()), abs=0.02)
        if panel.mask.dtype == torch.int64:  # the image that weighs most, of those that the label names
            assert set(panel.mask.unique().tolist()) <= set(said)
        assert name == "comixup" or set(said) <= {0, 1} or set(said) <= {2, 3}


def test_everything_is_drawn_with_a_network(pictures, network, tmp_path):
    left_out = show_mixes(pictures, tmp_path / "out/mixes.png", lambdas=(0.2, 0.8), network=network, size=32)
    assert set(left_out) == {"manifoldmix", "alignmix"}
    with Image.open(tmp_path / "out/mixes.png") as picture:
        assert picture.width > 400
        assert picture.height > 2000
        assert np.asarray(picture.convert("RGB")).std() > 20


def test_without_a_network_what_follows_one_is_named(pictures, tmp_path):
    left_out = show_mixes(pictures, tmp_path / "mixes.png", lambdas=(0.5,), size=32)
    assert set(left_out) == {"manifoldmix", "alignmix", "puzzlemix", "comixup", "attentivemix", "supermix"}
    assert left_out["puzzlemix"] == "follows a network: name one by --network"


def test_a_transformers_attention_refines_transmix(pictures, tmp_path):
    torch.manual_seed(0)
    vit = build_backbone("test_vit", 3)
    images = torch.randn(2, 3, 160, 160)
    context = training_context(nn.Identity(), F.cross_entropy)
    policy = mixups.build("transmix")
    [by_area], [refined] = (panels(policy, images, torch.eye(2), context, (0.5,), 3, net) for net in (None, vit))
    assert by_area[0].label != refined[0].label
    assert torch.equal(by_area[0].image, refined[0].image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["cutmx"]}, "unknown mixing method 'cutmx'; did you mean 'cutmix'"),
        ({"lambdas": (0.2, 1.5)}, r"lambda has to be in \[0, 1\], not 1.5"),
        ({"size": 0}, "the size has to be at least one pixel, not 0"),
        ({"out": Path("mixes.xyz")}, "mixes.xyz: no picture can be written under this ending; known: .*, png,"),
        ({"network": "absent.safetensors"}, "absent.json: no such file"),
    ],
)
def test_wrong_arguments_are_named(pictures, tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        show_mixes(pictures, **{"out": tmp_path / "mixes.png", **change})
    assert not (tmp_path / "mixes.png").exists()


def test_wrong_files_are_named(pictures, tmp_path):
    with pytest.raises(UserError, match="the number of images has to be even and at most 26, not 3"):
        show_mixes(pictures[:3], tmp_path / "mixes.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(UserError, match="text.png: cannot be read as an image"):
        show_mixes([pictures[0], tmp_path / "text.png"], tmp_path / "mixes.png")


def test_the_tool(pictures, tmp_path, monkeypatch, capsys):
    arguments = [*pictures[:2], "--methods", "mixup", "puzzlemix", "--lambdas", "0.5", "--size", "32"]
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments), "--out", str(tmp_path / "mixes.png")])
    with pytest.raises(SystemExit) as ended:
        run_path(str(TOOL), run_name="__main__")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.splitlines() == [
        f"mixes: {tmp_path / 'mixes.png'}",
        "  left out: puzzlemix, follows a network: name one by --network",
    ]
