"""MMDetection's ResNet, loaded with converted weights, computes what torchvision's computes: to the last bit."""

import pytest
import torch
import torchvision

from pretrain.console import UserError
from transfer.convert import convert
from transfer.mmdet import features

IMAGES = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def torchvision_stages(arch, state):
    model = torchvision.models.get_model(arch, num_classes=10).eval()
    model.load_state_dict(state)
    x = model.maxpool(model.relu(model.bn1(model.conv1(IMAGES))))
    stages = {}
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        x = stages[stage] = getattr(model, stage)(x)
    return stages


@pytest.mark.parametrize("head", ["c4", "fpn"])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_every_stage_is_bit_exact(arch, head, random_backbone):
    state = random_backbone(arch)
    found = features.stage_features(convert(state, "mmdet", head=head).state_dict, arch, IMAGES, head)
    wanted = torchvision_stages(arch, state)
    assert list(found) == list(wanted)
    for stage in wanted:
        assert (found[stage] - wanted[stage]).abs().max() == 0


def test_features_differ_where_the_stride_sits_elsewhere(monkeypatch, random_backbone):
    class CaffeStyle(features.ResNet):
        def __init__(self, *args, **settings):
            super().__init__(*args, **{**settings, "style": "caffe"})

    monkeypatch.setattr(features, "ResNet", CaffeStyle)
    state = random_backbone("resnet50")
    found = features.stage_features(convert(state, "mmdet", head="fpn").state_dict, "resnet50", IMAGES, "fpn")
    wanted = torchvision_stages("resnet50", state)["layer4"]
    assert (found["layer4"] - wanted).norm() > 0.05 * wanted.norm()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda weights: weights.pop("backbone.layer2.0.conv1.weight"), "backbone.layer2.0.conv1.weight"),
        (lambda weights: weights.update({"backbone.layer9.weight": torch.zeros(1)}), "backbone.layer9.weight"),
        (lambda weights: weights.update({"fc.weight": torch.zeros(1)}), "fc.weight"),
        (lambda weights: weights.update({"backbone.conv1.weight": torch.zeros(64, 3, 3, 3)}), "size mismatch"),
    ],
)
def test_no_tensor_may_be_left_over_or_missing(change, told, random_backbone):
    weights = convert(random_backbone("resnet18"), "mmdet", head="c4").state_dict
    change(weights)
    with pytest.raises(UserError, match=told):
        features.stage_features(weights, "resnet18", IMAGES, "c4")


def test_a_foreign_architecture_is_refused():
    with pytest.raises(UserError, match="resnext50_32x4d: MMDetection's ResNet cannot hold it"):
        features.stage_features({}, "resnext50_32x4d", IMAGES, "fpn")
