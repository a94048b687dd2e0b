"""The slim ResNets: layer by layer what their name says, counted by hand, and initialised as all ResNets here."""

from __future__ import annotations

import pytest
import torch
from timm.models.resnet import BasicBlock

from pretrain.backbones import build_backbone, stage_channels, stage_count, stage_features, stem_of


def block(before: int, inside: int, shortcut: bool) -> int:
    """Return the parameters of a basic block: two 3x3 convolutions, a 1x1 shortcut, two numbers a channel of a norm."""
    convolutions = 9 * before * inside + 9 * inside * inside + before * inside * shortcut
    return convolutions + 2 * inside * (2 + shortcut)


def test_layers_are_those_of_a_resnet18_of_half_the_channels() -> None:
    network = build_backbone("slim_resnet18", 50)
    stem = 7 * 7 * 3 * 64 + 2 * 64
    stages = [(64, 32), (32, 64), (64, 128), (128, 256)]
    wanted = [block(before, inside, True) + block(inside, inside, False) for before, inside in stages]
    found = [sum(p.numel() for p in network.get_submodule(f"layer{i}").parameters()) for i in (1, 2, 3, 4)]
    assert found == wanted
    assert sum(p.numel() for p in network.parameters()) == stem + sum(wanted) + 256 * 50 + 50 == 2_827_826
    assert stem_of("slim_resnet18") == "imagenet"


@pytest.mark.parametrize(("stage", "channels", "side"), [(1, 32, 14), (2, 64, 7), (3, 128, 4), (4, 256, 2)])
def test_feature_maps_of_56_pixels(stage: int, channels: int, side: int) -> None:
    network = build_backbone("slim_resnet18", 5)
    assert (stage_count(network), stage_channels(network, stage)) == (4, channels)
    assert stage_features(network, torch.zeros(2, 3, 56, 56), stage).shape == (2, channels, side, side)


def test_it_starts_as_the_other_resnets() -> None:
    """The head is drawn from N(0, 0.01), and every residual branch ends in a norm of zero."""
    torch.manual_seed(0)
    network = build_backbone("slim_resnet18", 100)
    assert network.fc.weight.std().item() == pytest.approx(0.01, rel=0.02)
    blocks = [part for part in network.modules() if isinstance(part, BasicBlock)]
    assert len(blocks) == 8
    assert all(part.bn2.weight.abs().sum() == 0 for part in blocks)
