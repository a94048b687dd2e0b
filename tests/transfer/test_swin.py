"""Swin-T: every library's names lead to torchvision's and back, and all compute the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from networks import randomised, skeleton, swin_of

from pretrain.console import UserError
from transfer.architectures import SWIN
from transfer.convert import convert
from transfer.layouts import read_source
from transfer.names import framework_names, merging_from_mmdet, merging_to_mmdet, relative_position_index
from transfer.verify import ORDER_ONLY, fixed_picture, verify


@pytest.fixture(scope="module")
def swin() -> dict[str, torch.Tensor]:
    return randomised(SWIN)


@pytest.mark.parametrize("framework", ["torchvision", "timm", "microsoft", "detectron2"])
def test_swin_layouts_lead_to_the_same_names(swin: dict, framework: str) -> None:
    constants = {name: tensor for name, tensor in swin.items() if name.endswith("relative_position_index")}
    content = swin if framework == "torchvision" else swin_of(framework, swin)
    if framework == "microsoft":  # its checkpoints keep two constants
        content |= {"layers.0.blocks.1.attn_mask": torch.zeros(64, 49, 49)}
        content |= {
            "layers.0.blocks.1.attn.relative_position_index": constants[
                "features.1.1.attn.relative_position_index"
            ].view(49, 49)
        }
    source = read_source({"model": content})
    wanted = {name: tensor for name, tensor in swin.items() if name not in constants}
    if framework == "detectron2":
        wanted = {name: tensor for name, tensor in wanted.items() if not name.startswith("head.")}
    assert (source.network.framework, source.card.arch) == (framework, SWIN)
    assert source.left_over == ()
    assert source.weights.keys() == wanted.keys()
    assert all(torch.equal(source.weights[name], tensor) for name, tensor in wanted.items())


def test_openmmlabs_swin_is_read_as_mmdet_reads_the_authors(swin: dict) -> None:
    """mmdet's own converter of Microsoft's checkpoints is the other half of the map."""
    from transfer.compat import prepare_mmcv

    prepare_mmcv()
    from mmdet.models.backbones.swin import swin_converter

    theirs = {
        name.removeprefix("backbone."): tensor for name, tensor in swin_converter(swin_of("microsoft", swin)).items()
    }
    theirs["norm3.weight"], theirs["norm3.bias"] = theirs.pop("norm.weight"), theirs.pop("norm.bias")
    source = read_source(
        {"state_dict": {"backbone." + name: tensor for name, tensor in theirs.items() if not name.startswith("head.")}}
    )
    assert source.network.framework == "mmdet"
    for name, tensor in source.weights.items():
        assert torch.equal(tensor, swin[name]), name
        assert torch.equal(merging_to_mmdet(name, tensor), theirs[framework_names(SWIN, "mmdet")[name]]), name


def test_swin_refusals_name_the_key(swin: dict) -> None:
    small = skeleton("swin_small_patch4_window7_224")
    cases = [
        (small, r"layers\.2\.blocks\.10\.attn\.proj\.bias has no place in swin_tiny_patch4_window7_224"),
        (swin | {"features.1.0.attn.logit_scale": torch.zeros(3, 1, 1)}, r"logit_scale has no place"),
        (
            {name: tensor for name, tensor in swin_of("timm", swin).items() if not name.startswith("layers.3.")},
            r"layers\.3\.downsample\.reduction\.weight is missing",
        ),
        (
            swin | {"features.1.0.attn.relative_position_index": torch.zeros(49 * 49, dtype=torch.int64)},
            r"features\.1\.0\.attn\.relative_position_index is not that of a window of 7",
        ),
    ]
    for content, message in cases:
        with pytest.raises(UserError, match=message):
            read_source(content)


def test_constant_of_the_windows(swin: dict) -> None:
    assert torch.equal(relative_position_index().flatten(), swin["features.5.3.attn.relative_position_index"])


def test_merging_in_the_order_of_unfold() -> None:
    """Channel c of patch p of four: of two channels torchvision's place is 2 p + c, nn.Unfold's 4 c + p."""
    image = torch.tensor([[[0.0, 1.0], [2.0, 3.0]], [[10.0, 11.0], [12.0, 13.0]]])  # (C, h, w)
    stacked = torch.cat(
        [image[:, 0::2, 0::2], image[:, 1::2, 0::2], image[:, 0::2, 1::2], image[:, 1::2, 1::2]]
    ).flatten()
    unfolded = torch.nn.functional.unfold(image[None], 2).flatten()
    assert torch.equal(merging_to_mmdet("features.2.norm.weight", stacked), unfolded)
    assert torch.equal(merging_from_mmdet("features.2.norm.weight", unfolded), stacked)
    assert torch.equal(merging_to_mmdet("features.3.0.norm1.weight", stacked), stacked)


def test_names_are_timms_and_torchvisions_own(swin: dict) -> None:
    """Classifier and all; timm keeps no constants."""
    with torch.device("meta"):
        theirs = {
            "timm": timm.create_model(SWIN, num_classes=10),
            "torchvision": torchvision.models.swin_t(num_classes=10),
        }
    for framework, network in theirs.items():
        shapes = {name: tensor.shape for name, tensor in network.state_dict().items() if "position_index" not in name}
        converted = convert(swin, framework).state_dict
        assert {name: tensor.shape for name, tensor in converted.items()} == shapes


SMALL = fixed_picture(SWIN)[..., :224, :224]  # of which the last stage is one window: not the same in all libraries
EXACT = dict.fromkeys(["stem", "layer1", "layer2", "layer3", "layer4", "norm"], 0.0)


@pytest.mark.parametrize(
    ("source", "target"), [("torchvision", "timm"), ("timm", "torchvision"), ("microsoft", "torchvision")]
)
def test_libraries_compute_the_same_to_the_last_bit(swin: dict, source: str, target: str) -> None:
    content = swin if source == "torchvision" else swin_of(source, swin)
    outcome = verify(content, convert(content, target), target)
    assert outcome.max_abs_diff == EXACT
    assert outcome.passed


@pytest.mark.parametrize("framework", ["torchvision", "timm", "microsoft"])
def test_openmmlab_computes_the_same_but_for_the_order_of_sums(swin: dict, framework: str) -> None:
    content = swin if framework == "torchvision" else swin_of(framework, swin)
    outcome = verify(content, convert(content, "mmdet"), "mmdet")
    assert outcome.passed
    assert outcome.tolerance == ORDER_ONLY
    assert outcome.max_abs_diff.keys() == {"input", *EXACT}
    assert [outcome.max_abs_diff[stage] for stage in ("input", "stem", "layer1")] == [0, 0, 0]  # before any merging


def test_openmmlab_to_openmmlab_and_back(swin: dict) -> None:
    """mmpretrain's names are mmdet's: equal to the last bit, in float32. And from there to timm's."""
    theirs = {"state_dict": convert(swin, "mmdet").state_dict}
    converted = convert(theirs, "mmdet")
    assert all(torch.equal(converted.state_dict[name], tensor) for name, tensor in theirs["state_dict"].items())
    outcome = verify(theirs, converted, "mmdet", SMALL)
    assert (outcome.max_abs_diff, outcome.tolerance) == ({"input": 0.0, **EXACT}, 0.0)
    assert verify(theirs, convert(theirs, "timm"), "timm").passed


@pytest.mark.parametrize(("stage", "part"), [(0, "reduction.weight"), (1, "norm.weight"), (2, "norm.bias")])
def test_merging_in_the_wrong_order_is_seen(swin: dict, stage: int, part: str) -> None:
    """The shapes fit, so that MMDetection loads it without a word."""
    converted = convert(swin, "mmdet")
    name = f"backbone.stages.{stage}.downsample.{part}"
    wrong = {**converted.state_dict, name: swin[f"features.{2 * stage + 2}.{part}"]}
    outcome = verify(swin, replace(converted, state_dict=wrong), "mmdet", SMALL)
    assert not outcome.passed
    assert outcome.max_abs_diff[f"layer{stage + 1}"] < ORDER_ONLY
    assert outcome.max_abs_diff[f"layer{stage + 2}"] > 1e-3


def test_exchanged_tensors_are_seen(swin: dict) -> None:
    converted = convert(swin_of("microsoft", swin), "timm")
    weights = dict(converted.state_dict)
    first, second = "layers.2.blocks.4.norm1.bias", "layers.2.blocks.4.norm2.bias"
    weights[first], weights[second] = weights[second], weights[first]
    outcome = verify(swin_of("microsoft", swin), replace(converted, state_dict=weights), "timm")
    assert not outcome.passed
    assert outcome.max_abs_diff["layer2"] == 0
    assert outcome.max_abs_diff["layer3"] > 0


@pytest.mark.parametrize("target", ["detectron2", "mmdet"])
def test_no_c4_detector(swin: dict, target: str) -> None:
    with pytest.raises(UserError, match="has no C4 detector; convert it with --head fpn$"):
        convert(swin, target, head="c4")
    assert convert(swin, target).head == "fpn"


def test_detectron2(swin: dict) -> None:
    """v0.6 has no Swin transformer, and says so; later ones compute the same."""
    from transfer.compat import detectron2_folder

    converted = convert(swin, "detectron2")
    if (detectron2_folder() / "modeling" / "backbone" / "swin.py").is_file():
        assert verify(swin, converted, "detectron2").max_abs_diff == {"input": 0.0, **EXACT}
    else:
        with pytest.raises(UserError, match=r"v0\.6, which has no Swin transformer"):
            verify(swin, converted, "detectron2")
