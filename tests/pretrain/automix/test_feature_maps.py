"""Any network, any image, any batch: what the Mix Block gets and gives."""

import pytest
import torch

from pretrain.automix import AutoMix, AutoMixSettings, MixBlock
from pretrain.backbones import build_backbone, stage_channels, stage_features
from pretrain.console import UserError

# name, options, (height, width), stride and channels after stage 3
NETWORKS = [
    ("resnet18", {}, (64, 96), 16, 256),
    ("resnet50", {}, (50, 70), 16, 1024),
    ("resnext50_32x4d", {}, (48, 48), 16, 1024),
    ("wide_resnet50_2", {}, (48, 48), 16, 1024),
    ("mobilenetv2_100", {}, (70, 50), 16, 96),
    ("efficientnet_b0", {}, (64, 96), 16, 112),
    ("convnext_tiny", {"depths": (1, 1, 1, 1)}, (64, 96), 16, 384),
    ("swin_tiny_patch4_window7_224", {"img_size": (64, 96), "depths": (1, 1, 1, 1)}, (64, 96), 16, 384),
    ("deit_small_patch16_224", {"img_size": (64, 96), "depth": 8}, (64, 96), 16, 384),
    ("cifar_resnet18", {}, (20, 36), 4, 256),
    ("cifar_resnet20", {}, (21, 33), 4, 64),
    ("cifar_resnext50_32x4d", {}, (16, 24), 4, 1024),
]


@pytest.mark.parametrize(
    ("name", "options", "size", "stride", "channels"), NETWORKS, ids=[network[0] for network in NETWORKS]
)
def test_a_step_on_every_kind_of_feature_map(name, options, size, stride, channels):
    torch.manual_seed(0)
    student = build_backbone(name, 4, **options)
    images, labels = torch.randn(3, 3, *size), torch.tensor([0, 1, 3])
    features = stage_features(student, images, 3)
    assert features.shape == (3, channels, -(-size[0] // stride), -(-size[1] // stride))
    assert stage_channels(student, 3) == channels

    automix = AutoMix(student, MixBlock(channels))
    mask = automix.mix_block(features, torch.tensor([1, 2, 0]), 0.3, size)
    assert mask.shape == (3, 1, *size)
    # One value for each position of the feature map, however its side goes into the image's.
    assert len(mask[0].unique()) <= features.shape[2] * features.shape[3]
    given = {"lam_q": 0.4, "lam_k": 0.9, "index_q": torch.tensor([2, 0, 1]), "index_k": torch.tensor([1, 2, 0])}
    losses = automix.training_step(images, labels, **given, backward=torch.Tensor.backward)
    assert torch.isfinite(losses.total)
    assert automix.mix_block.query.weight.grad.abs().sum() > 0


def test_class_tokens_are_left_out_of_the_feature_map():
    network = build_backbone("deit_small_patch16_224", 4, img_size=(32, 48), depth=4)
    position = network.forward_intermediates(
        torch.zeros(1, 3, 32, 48), indices=[2], output_fmt="NLC", intermediates_only=True
    )[0]
    features = stage_features(network, torch.zeros(1, 3, 32, 48), 3)
    assert torch.equal(features.flatten(2).mT, position)  # 2 x 3 patches in reading order
    assert features.shape[2:] == (2, 3)


def test_stages_of_a_transformer_are_quarters_of_its_blocks():
    network = build_backbone("deit_small_patch16_224", 4, img_size=32)
    done = []
    for number, block in enumerate(network.blocks):
        block.register_forward_hook(lambda *_, number=number: done.append(number))
    stage_features(network, torch.zeros(1, 3, 32, 32), 2)
    assert done == list(range(6))  # the authors' layer for DeiT-S


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("preset", ["paper", "openmixup"])
def test_any_batch(n, preset):
    torch.manual_seed(0)
    automix = AutoMix(build_backbone("cifar_resnet20", 4), MixBlock(64), AutoMixSettings(preset=preset))
    losses = automix.training_step(torch.randn(n, 3, 16, 16), torch.arange(n) % 4, backward=torch.Tensor.backward)
    assert torch.isfinite(losses.total)


@pytest.mark.parametrize("layer", [0, 5])
def test_a_layer_that_is_not_there(layer):
    with pytest.raises(UserError, match=f"the feature layer is {layer}, but the backbone has stages 1 to 4"):
        stage_channels(build_backbone("resnet10t", 4), layer)
