"""The module of a stage gives what `stage_features` gives, in the network's own layout."""

import pytest
import torch
from torch.testing import assert_close

from pretrain.backbones import build_backbone, stage_channels, stage_count, stage_features, stage_module
from pretrain.console import UserError

# Name and options, height and width of the images, number of stages.
NETWORKS = [
    ("resnet18", {}, (32, 48), 4),
    ("resnext50_32x4d", {}, (32, 48), 4),
    ("wide_resnet50_2", {}, (32, 32), 4),
    ("mobilenetv2_100", {}, (64, 32), 4),
    ("efficientnet_b0", {}, (64, 32), 4),
    ("convnext_tiny", {"depths": (1, 1, 1, 1)}, (32, 48), 4),
    ("swin_tiny_patch4_window7_224", {"img_size": (64, 96), "depths": (1, 1, 1, 1)}, (64, 96), 4),
    ("deit_small_patch16_224", {"img_size": (32, 48), "depth": 8}, (32, 48), 4),
    ("cifar_resnet18", {}, (16, 24), 4),
    ("cifar_resnet20", {}, (16, 24), 3),
    ("cifar_wrn28_8", {}, (8, 12), 3),
]


def _own_layout(network, features):
    """Bring a stage's output into (N, C, h, w), given the map that `stage_features` returned."""
    output = network.captured
    if output.ndim == 3:
        return output[:, network.num_prefix_tokens :].mT.unflatten(2, features.shape[2:])
    return output.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "") == "NHWC" else output


@pytest.mark.parametrize(("name", "options", "size", "stages"), NETWORKS, ids=[network[0] for network in NETWORKS])
def test_the_hooked_output_is_the_feature_map(name, options, size, stages):
    torch.manual_seed(0)
    network = build_backbone(name, 4, **options).eval()
    images = torch.randn(2, 3, *size)
    assert stage_count(network) == stages
    for stage in range(1, stages + 1):
        hook = stage_module(network, stage).register_forward_hook(lambda _, __, out: setattr(network, "captured", out))
        with torch.no_grad():
            network(images)
            hook.remove()
            features = stage_features(network, images, stage)
        assert_close(_own_layout(network, features), features, atol=0, rtol=0)
        assert features.shape[1] == stage_channels(network, stage)


def test_stages_of_a_transformer_are_quarters_of_its_blocks():
    network = build_backbone("deit_small_patch16_224", 4, img_size=32)
    assert [stage_module(network, stage) for stage in (1, 2, 3, 4)] == [network.blocks[i] for i in (2, 5, 8, 11)]


@pytest.mark.parametrize(("name", "stage"), [("resnet10t", 0), ("resnet10t", 5), ("cifar_resnet20", 4)])
def test_a_stage_that_is_not_there(name, stage):
    with pytest.raises(UserError, match=f"the feature layer is {stage}, but the backbone has stages 1 to"):
        stage_module(build_backbone(name, 4), stage)
