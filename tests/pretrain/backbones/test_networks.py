"""Every network of Tables 1 to 5: stages, card, copies, settings, and a step of AutoMix and of CutMix."""

import copy
from functools import cache

import pytest
import torch
from torch import nn

from pretrain import AutoMix, MixBlock, load_backbone, mixups
from pretrain.automix import AutoMixSettings
from pretrain.backbones import (
    BackboneCard,
    build_backbone,
    export_backbone,
    stage_channels,
    stage_count,
    stage_features,
    stage_module,
    stem_of,
    takes_image_size,
)
from pretrain.console import UserError
from pretrain.training.methods import Classification

# Image side in these tests, channels of the stages and their strides, as the networks' papers have them.
BASIC, BOTTLENECK = (64, 128, 256, 512), (256, 512, 1024, 2048)
NETWORKS = {
    "resnet18": (64, BASIC, (4, 8, 16, 32)),
    "resnet34": (64, BASIC, (4, 8, 16, 32)),
    "resnet50": (64, BOTTLENECK, (4, 8, 16, 32)),
    "resnet101": (64, BOTTLENECK, (4, 8, 16, 32)),
    "resnext50_32x4d": (64, BOTTLENECK, (4, 8, 16, 32)),
    "resnext101_32x4d": (64, BOTTLENECK, (4, 8, 16, 32)),
    "mobilenetv2_100": (64, (24, 32, 96, 320), (4, 8, 16, 32)),
    "efficientnet_b0": (64, (24, 40, 112, 320), (4, 8, 16, 32)),
    "convnext_tiny": (64, (96, 192, 384, 768), (4, 8, 16, 32)),
    "deit_small_patch16_224": (64, (384,) * 4, (16,) * 4),
    "swin_tiny_patch4_window7_224": (64, (96, 192, 384, 768), (4, 8, 16, 32)),
    "cifar_resnet18": (16, BASIC, (1, 2, 4, 8)),
    "cifar_resnet20": (16, (16, 32, 64), (1, 2, 4)),
    "cifar_resnext50_32x4d": (16, BOTTLENECK, (1, 2, 4, 8)),
    "cifar_wrn28_8": (16, (128, 256, 512), (1, 2, 4)),
}
CLASSES = ("a", "b", "c")
every_network = pytest.mark.parametrize("name", NETWORKS)


@cache
def _built(name):
    """A network in eval mode, which stays as it is; built once, for building is slow."""
    torch.manual_seed(0)
    options = {"img_size": NETWORKS[name][0]} if takes_image_size(name) else {}
    return build_backbone(name, len(CLASSES), **options).eval()


def _images(name, n=2):
    side = NETWORKS[name][0]
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


@every_network
def test_stages(name):
    side, channels, strides = NETWORKS[name]
    network = _built(name)
    assert stage_count(network) == len(channels)
    assert [entry["reduction"] for entry in network.feature_info][-len(strides) :] == list(strides)
    for stage, (width, stride) in enumerate(zip(channels, strides), start=1):
        with torch.no_grad():
            features = stage_features(network, _images(name, 1), stage)
        assert features.shape == (1, width, side // stride, side // stride)
        assert stage_channels(network, stage) == width
        assert isinstance(stage_module(network, stage), nn.Module)
    for stage in (0, len(channels) + 1):
        with pytest.raises(
            UserError, match=f"feature layer is {stage}, but the backbone has stages 1 to {len(channels)}"
        ):
            stage_channels(network, stage)


@pytest.mark.parametrize("size", [160, 224])
@pytest.mark.parametrize("name", ["resnet50", "efficientnet_b0", "mobilenetv2_100"])
def test_the_sizes_of_the_rsb_procedure(name, size):
    """Trained at 160 pixels and tested at 224 (Table 12)."""
    with torch.no_grad():
        features = stage_features(_built(name), torch.zeros(1, 3, size, size), 3)
    assert features.shape == (1, NETWORKS[name][1][2], size // 16, size // 16)


@pytest.mark.parametrize("name", ["deit_small_patch16_224", "swin_tiny_patch4_window7_224"])
def test_the_size_that_a_network_is_made_for(name):
    network = build_backbone(name, 3).eval()
    with torch.no_grad():
        assert stage_features(network, torch.zeros(1, 3, 224, 224), 3).shape == (1, 384, 14, 14)


@every_network
def test_an_exported_network_is_read_again_and_copied(name, tmp_path):
    network, images = _built(name), _images(name)
    card = BackboneCard(arch=name, classes=CLASSES, stem=stem_of(name), input_size=tuple(images.shape[2:]))
    assert card.stem == ("cifar" if name.startswith("cifar") else "imagenet")
    export_backbone(network, card, tmp_path / "model")
    again, _ = load_backbone(tmp_path / "model.safetensors")
    with torch.no_grad():
        logits = network(images)
        assert logits.shape == (2, 3)
        assert torch.equal(again(images), logits)
        assert torch.equal(copy.deepcopy(network)(images), logits)


@every_network
def test_stochastic_depth_is_taken(name):
    with torch.device("meta"):
        network = build_backbone(name, 3, drop_path_rate=0.3)
    rates = [module.drop_prob for module in network.modules() if type(module).__name__ == "DropPath"]
    assert max(rates) == pytest.approx(0.3, abs=0.02)  # EfficientNet and MobileNetV2 count one block more
    assert min(rates) < 0.1


@every_network
def test_a_setting_that_a_network_does_not_take_is_named(name):
    with pytest.raises(UserError, match=f"backbone '{name}' takes no setting 'drop_pathrate'; leave it out"):
        build_backbone(name, 3, drop_pathrate=0.1)
    if name.startswith("cifar"):
        with pytest.raises(UserError, match="takes no setting 'drop_rate'"):
            build_backbone(name, 3, drop_rate=0.1)
        return
    with torch.device("meta"):
        network = build_backbone(name, 3, drop_rate=0.1)
    assert 0.1 in [getattr(network, "drop_rate", None), *(getattr(module, "p", None) for module in network.modules())]


def test_a_fault_of_another_kind_is_not_the_settings():
    with pytest.raises(TypeError):
        build_backbone("resnet18", 3, drop_path_rate="0.1")


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("resnet18", 0.01),
        ("resnext50_32x4d", 0.01),
        ("cifar_resnext50_32x4d", 0.01),
        ("convnext_tiny", 0.02),
        ("deit_small_patch16_224", 0.02),
        ("swin_tiny_patch4_window7_224", 0.02),
        ("efficientnet_b0", 500**-0.5 / 3**0.5),  # uniform in +-1 / sqrt(classes), as TensorFlow's
        ("mobilenetv2_100", 500**-0.5 / 3**0.5),
    ],
)
def test_heads_are_drawn_as_they_are_published(name, deviation):
    torch.manual_seed(0)
    head = build_backbone(name, 500).get_classifier()
    assert head.weight.std().item() == pytest.approx(deviation, rel=0.015)
    assert not head.bias.any()


def _first_layer(network):
    return next(value for value in network.parameters() if value.ndim == 4)


def _assert_all_finite(module):
    gradients = [value.grad for value in module.parameters() if value.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


# l = 3 as in the paper; the authors' code takes stage 2 of WRN-28-8, of 16x16 in an image of 32x32.
@pytest.mark.parametrize(("name", "layer"), [*((name, 3) for name in NETWORKS), ("cifar_wrn28_8", 2)])
def test_a_step_of_automix(name, layer):
    torch.manual_seed(0)
    block = MixBlock(stage_channels(_built(name), layer))
    automix = AutoMix(copy.deepcopy(_built(name)), block, AutoMixSettings(feature_layer=layer))
    swap = torch.tensor([1, 0])
    given = {"lam_q": 0.4, "lam_k": 0.8, "index_q": swap, "index_k": swap}
    losses = automix.train().training_step(_images(name), torch.tensor([0, 2]), **given, backward=torch.Tensor.backward)
    assert all(torch.isfinite(loss) for loss in losses)
    _assert_all_finite(automix)
    assert automix.mix_block.query.weight.grad.any()
    assert automix.mix_block.value.weight.grad.any()
    assert _first_layer(automix.student).grad.any()


@every_network
def test_a_step_of_cutmix(name):
    network = copy.deepcopy(_built(name))
    method = Classification(network, 3, mixups.build("cutmix")).train()
    losses = method.training_step(
        _images(name), torch.tensor([0, 2]), generator=torch.Generator().manual_seed(0), backward=torch.Tensor.backward
    )
    assert torch.isfinite(losses.total)
    _assert_all_finite(network)
    assert _first_layer(network).grad.any()
