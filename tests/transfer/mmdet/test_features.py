"""What MMDetection itself would leave random without an error ends the proof. test_verify.py has what it computes."""

from dataclasses import replace

import pytest
import torch
from networks import skeleton

from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from transfer.convert import convert
from transfer.mmdet.features import network_input, stage_features

IMAGES = torch.zeros(1, 3, 32, 32)


def renamed(old, new):
    return lambda weights: {name.replace(old, new): tensor for name, tensor in weights.items()}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (renamed("backbone.", ""), "backbone.conv1.weight is not in the file, and would stay random"),
        (renamed("backbone.", "module.backbone."), "backbone.conv1.weight is not in the file, and would stay random"),
        (renamed("roi_head.shared_head.", "backbone."), "converted with --head fpn, but the config builds a c4"),
        (renamed("shared_head.layer4.1.bn2.bias", "shared_head.x"), "shared_head.layer4.1.bn2.bias is not in the file"),
        (lambda weights: weights | {"fc.weight": torch.zeros(1)}, "fc.weight has no place"),
        (
            lambda weights: weights | {"backbone.conv1.weight": torch.zeros(64, 3, 3, 3)},
            r"backbone.conv1.weight is \(64, 3, 3, 3\), the detector has \(64, 3, 7, 7\)",
        ),
    ],
)
def test_what_would_stay_random_is_refused(change, told):
    converted = convert(skeleton("resnet18"), "mmdet", head="c4")
    with pytest.raises(UserError, match=told):
        stage_features(change(converted.state_dict), converted.card, IMAGES, "c4")


@pytest.mark.parametrize("head", ["c4", "fpn"])
@pytest.mark.parametrize(("arch", "other"), [("resnext101_32x8d", "resnext101_64x4d"), ("resnet50", "resnext50_32x4d")])
def test_wrong_groups_are_refused(arch, other, head):
    converted = convert(skeleton(arch), "mmdet", head=head)
    with pytest.raises(UserError, match="the config builds another architecture"):
        stage_features(converted.state_dict, replace(converted.card, arch=other), IMAGES, head)


@pytest.mark.parametrize(
    ("order", "mean", "std", "wanted"),
    [
        ("RGB", (40, 60, 40), (20, 10, 20), [1.0, 2.0, 3.0]),
        ("BGR", (140, 50, 20), (20, 20, 5), [-2.0, 1.5, 8.0]),
    ],
)
def test_input_is_what_the_card_says(order, mean, std, wanted):
    """(value - mean) / std, channel by channel in the card's order; the picture is R 60, G 80, B 100 of 255."""
    mean, std = (tuple(value / 255 for value in values) for values in (mean, std))
    card = BackboneCard(arch="resnet18", classes=(), channel_order=order, mean=mean, std=std)
    picture = torch.tensor([60.0, 80.0, 100.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    torch.testing.assert_close(network_input(card, picture)[0, :, 0, 0], torch.tensor(wanted), rtol=0, atol=1e-5)
