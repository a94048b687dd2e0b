"""The C4 head for every kind of block, against torchvision's layer4 followed by a BatchNorm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from transfer.d2.config import architecture_values, load_config
from transfer.d2.features import build_model
from transfer.d2.heads import res5_blocks
from transfer.names import framework_names

VOC = Path(__file__).parents[3] / "configs" / "d2" / "voc_r50_c4_24k.yaml"
ARCHITECTURES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d")


def config(arch: str) -> object:
    pairs = [(key, str(value)) for key, value in architecture_values(arch).items()]
    return load_config(VOC, None, [word for pair in pairs for word in pair] + ["MODEL.DEVICE", "meta"])


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_res5_computes_what_torchvision_does(arch: str) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(arch, weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as initialised they would hide an exchanged tensor
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    blocks, channels = res5_blocks(config(arch))
    names = framework_names(arch, "detectron2", "c4")
    weights = {
        names[f"layer4.{name}"].removeprefix("roi_heads.res5."): tensor
        for name, tensor in network.layer4.state_dict().items()
    }
    blocks.load_state_dict(weights)
    regions = torch.randn(3, channels // 2, 14, 14)
    with torch.no_grad():
        found, expected = blocks.eval()(regions), network.layer4.eval()(regions)
    assert found.shape == (3, channels, 7, 7)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_extra_norm_is_last_fresh_and_named_as_in_moco(arch: str) -> None:
    """MoCo's train_net.py adds it to the Sequential of the blocks: its tensors are roi_heads.res5.norm.*."""
    with torch.device("meta"):
        heads = build_model(config(arch)).roi_heads
        layer4 = torchvision.models.get_model(arch, weights=None).layer4
    channels = 512 if arch in ("resnet18", "resnet34") else 2048
    assert list(dict(heads.res5.named_children()))[-1] == "norm"
    assert isinstance(heads.res5.norm, nn.SyncBatchNorm)
    names = {name for name in heads.state_dict() if name.startswith("res5.norm.")}
    tensors = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert names == {f"res5.norm.{name}" for name in tensors}
    number, expected = (sum(p.numel() for p in module.parameters()) for module in (heads.res5, layer4))
    assert number == expected + 2 * channels
    assert heads.box_predictor.cls_score.in_features == channels


def test_extra_norm_starts_as_the_identity_and_learns() -> None:
    torch.manual_seed(0)
    cfg = config("resnet18").clone()
    cfg.MODEL.DEVICE = "cpu"
    heads = build_model(cfg).roi_heads
    norm = heads.res5.norm
    assert norm.weight.eq(1).all()
    assert norm.bias.eq(0).all()
    assert norm.running_mean.eq(0).all()
    assert norm.running_var.eq(1).all()
    assert norm.weight.requires_grad
    regions = torch.randn(4, 256, 14, 14)
    with torch.no_grad():
        out = heads.train().res5(regions)  # in training: normalised by the batch, so mean 0 and variance 1
    assert out.mean((0, 2, 3)).abs().max() < 1e-5
    assert (out.var((0, 2, 3), unbiased=False) - 1).abs().max() < 1e-2
