"""The last stage in the RoI head of a C4 detector: of every ResNet and ResNeXt, with a norm behind it."""

import pytest
import torch
from mmdet.registry import MODELS
from networks import skeleton

import transfer.mmdet.heads  # noqa: F401  (registers ResLayerExtraNorm)
from pretrain.console import UserError
from transfer.architectures import RESNETS
from transfer.convert import convert

NORM = {"type": "BN", "requires_grad": True}
PREFIX = "roi_head.shared_head."


def build(**settings):
    return MODELS.build({"type": "ResLayerExtraNorm", "norm_cfg": NORM, **settings})


@pytest.mark.parametrize("arch", RESNETS)
def test_parameters_are_those_of_the_converted_weights(arch):
    shape = RESNETS[arch]
    with torch.device("meta"):
        channels = {"groups": shape.groups, "base_width": shape.width_per_group, "base_channels": shape.base_channels}
        head = build(depth=shape.depth, **channels)
    own = {PREFIX + name: tensor.shape for name, tensor in head.state_dict().items()}
    norm = {f"{PREFIX}norm.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    weights = convert(skeleton(arch), "mmdet", head="c4").state_dict
    converted = {name: tensor.shape for name, tensor in weights.items() if name.startswith(PREFIX)}
    assert own.keys() - converted.keys() == norm
    assert {name: own[name] for name in own if name not in norm} == converted


@pytest.mark.parametrize(("groups", "base_width"), [(1, 64), (32, 4)])
def test_norm_comes_last_and_settings_reach_the_blocks(groups, base_width):
    """`dilation` and `stage` as MMDetection's own C4 config has them."""
    head = build(depth=50, groups=groups, base_width=base_width, stage=3, stride=2, dilation=1, style="caffe")
    head.eval()
    assert {block.conv2.groups for block in head.layer4} == {groups}
    assert [block.conv1.stride for block in head.layer4] == [(2, 2), (1, 1), (1, 1)]
    assert {block.conv2.stride for block in head.layer4} == {(1, 1)}
    torch.nn.init.normal_(head.norm.weight)
    features = torch.rand(2, 1024, 14, 14)
    with torch.no_grad():
        found = head(features)
        assert torch.equal(found, head.norm(head.layer4(features)))
    assert found.shape == (2, 2048, 7, 7)
    plain = build(depth=50, groups=groups, base_width=base_width)
    assert (plain.layer4[0].conv1.stride, plain.layer4[0].conv2.stride) == ((1, 1), (2, 2))


@pytest.mark.parametrize("groups", [1, 32])
@pytest.mark.parametrize("norm_eval", [False, True])
def test_norms_train_unless_told_otherwise(groups, norm_eval):
    head = build(depth=50, groups=groups, norm_eval=norm_eval)
    head.train()
    norms = [part for part in head.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert len(norms) == 11  # three in each of three blocks, one beside the first, one behind all
    assert {part.training for part in norms} == {not norm_eval}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"depth": 51}, "shared_head.depth is 51; with groups=1 it is one of 18, 34, 50, 101, 152$"),
        ({"depth": 18, "groups": 32}, "shared_head.depth is 18; with groups=32 it is one of 50, 101, 152$"),
        ({"depth": 50, "stage": 2}, "shared_head.stage is 2; it is 3, the last$"),
    ],
)
def test_what_there_is_not_is_refused(settings, told):
    with pytest.raises(UserError, match=told):
        build(**settings)
