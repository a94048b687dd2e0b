"""ManifoldMix against MixUp, against networks for which the stage cannot matter, and against the same work by hand."""

from collections import Counter

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain import mixups
from pretrain.backbones import build_backbone, stage_features
from pretrain.console import UserError
from pretrain.mixups.manifoldmix import ManifoldMix, StageDraw
from pretrain.mixups.stage import mixed_stage

INDEX = torch.tensor([2, 0, 1, 4, 3])


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def _batch(n=5, size=(12, 20)):
    return torch.randn(n, 3, *size, generator=_seeded(1)), F.one_hot(torch.arange(n) % 4, 4).float()


class Linear(nn.Module):
    """Three linear stages and a linear head, with nothing that is not linear."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(c, 4, 3, stride=2, bias=False) for c in (3, 4, 4))
        self.head = nn.Linear(4, 4, bias=False)
        self.feature_info = [{"module": f"stages.{i}", "num_chs": 4, "reduction": 2 ** (i + 1)} for i in range(3)]

    def forward(self, images):
        for stage in self.stages:
            images = stage(images)
        return self.head(images.mean((2, 3)))


def test_stage_0_is_mixup():
    images, targets = _batch()
    network = build_backbone("cifar_resnet20", 4)
    ours = ManifoldMix(alpha=0.7, stages=(0,))(images, targets, generator=_seeded())
    theirs = mixups.build("mixup", alpha=0.7)(images, targets, generator=_seeded())
    for field in ("images", "mask", "lam", "index", "soft_targets"):
        assert torch.equal(getattr(ours, field), getattr(theirs, field))
    criterion = nn.CrossEntropyLoss()
    assert torch.equal(ours.loss(network, criterion), theirs.loss(network, criterion))


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_where_a_linear_network_mixes_does_not_matter(stage):
    torch.manual_seed(0)
    network, (images, targets) = Linear(), _batch(size=(15, 21))
    result = ManifoldMix().apply(images, targets, StageDraw(0.3, INDEX, stage))
    mixed = 0.3 * images + 0.7 * images[INDEX]
    assert_close(result.loss(network, lambda logits, _: logits), network(mixed))
    assert not torch.allclose(network(images), network(mixed))


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_loss_and_gradient_are_those_by_hand(stage):
    torch.manual_seed(0)
    network, (images, targets) = build_backbone("cifar_resnet20", 4).eval(), _batch()
    result = ManifoldMix().apply(images, targets, StageDraw(0.3, INDEX, stage))
    loss = result.loss(network, nn.CrossEntropyLoss())
    loss.backward()

    features = stage_features(network, images, stage)
    features = 0.3 * features + 0.7 * features[INDEX]
    for name in network.stages[stage:]:
        features = getattr(network, name)(features)
    logits = network.forward_head(features).log_softmax(1)
    labels = torch.arange(5) % 4
    by_hand = -(0.3 * logits[range(5), labels] + 0.7 * logits[range(5), labels[INDEX]]).mean()
    assert_close(loss, by_hand)
    [gradient] = torch.autograd.grad(by_hand, [network.conv1.weight])
    assert_close(network.conv1.weight.grad, gradient)
    assert gradient.abs().sum() > 0


def test_what_the_result_says():
    images, targets = _batch()
    before = images.clone()
    result = ManifoldMix().apply(images, targets, StageDraw(0.3, INDEX, 2))
    assert torch.equal(result.images, before)
    assert result.mask is None
    assert torch.equal(result.index, INDEX)
    assert torch.equal(result.lam, torch.full((5,), 0.3))
    assert_close(result.soft_targets, result.weights @ targets)
    assert_close(result.weights[0], torch.tensor([0.3, 0, 0.7, 0, 0]))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deit_small_patch16_224", {"img_size": 32, "depth": 4}),
        ("swin_tiny_patch4_window7_224", {"img_size": (64, 96), "depths": (1, 1, 1, 1)}),
    ],
)
def test_tokens_and_channels_last_mix_along_the_batch(name, options):
    torch.manual_seed(0)
    network = build_backbone(name, 4, **options).eval()
    network.get_classifier().weight.data.normal_()
    height, width = (64, 96) if "swin" in name else (32, 32)
    images, targets = _batch(size=(height, width))
    clean = network(images)
    # lam = 0 swaps each image's features for its partner's, whatever their layout.
    result = ManifoldMix().apply(images, targets, StageDraw(0.0, INDEX, 2))
    assert_close(result.loss(network, lambda logits, _: logits), clean[INDEX], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(clean, clean[INDEX], atol=1e-2)


@pytest.mark.parametrize("stage", [1, None])
def test_mix_sees_channels_first_and_the_network_gets_its_own_layout_back(stage):
    network = build_backbone("swin_tiny_patch4_window7_224", 4, img_size=(64, 96), depths=(1, 1, 1, 1)).eval()
    images = torch.randn(2, 3, 64, 96)
    seen = []
    clean = network(images)
    with mixed_stage(network, stage, lambda features: seen.append(features) or features):
        assert_close(network(images), clean)
    assert_close(seen[0], stage_features(network, images, stage or 4))


def test_the_hook_goes_also_after_an_exception():
    torch.manual_seed(0)
    network, (images, targets) = build_backbone("cifar_resnet20", 4).eval(), _batch()
    clean = network(images)
    result = ManifoldMix().apply(images, targets, StageDraw(0.3, INDEX, 1))
    assert not torch.allclose(result.loss(network, lambda logits, _: logits), clean)
    assert torch.equal(network(images), clean)

    def fail(features):
        raise ArithmeticError("in the hook")

    with pytest.raises(ArithmeticError, match="in the hook"), mixed_stage(network, 1, fail):
        network(images)
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(network(images), clean)


def _counting_compile(network):
    """Compile with dynamo alone; returns the list that grows by one with each graph."""
    graphs = []
    torch._dynamo.reset()
    network.compile(backend=lambda graph, _: graphs.append(graph) or graph.forward)
    return graphs


def test_a_compiled_network_mixes_too_and_stays_compiled():
    torch.manual_seed(0)
    network, (images, targets) = Linear(), _batch(size=(15, 21))
    clean, mixed = network(images), network(0.3 * images + 0.7 * images[INDEX])
    graphs = _counting_compile(network)
    result = ManifoldMix().apply(images, targets, StageDraw(0.3, INDEX, 1))
    for _ in range(2):
        assert_close(network(images), clean)
        assert_close(result.loss(network, lambda logits, _: logits), mixed)
    assert len(graphs) == 1


def test_compiled_code_that_goes_round_the_hook_is_an_error(monkeypatch):
    monkeypatch.delattr(torch.compiler, "set_stance")  # as in torch 2.4 and 2.5
    network, (images, targets) = Linear(), _batch(size=(15, 21))
    _counting_compile(network)
    network(images)
    result = ManifoldMix().apply(images, targets, StageDraw(0.3, INDEX, 1))
    with pytest.raises(RuntimeError, match=r"went round the module of stage 1.* switch off torch\.compile"):
        result.loss(network, nn.CrossEntropyLoss())


def test_stages_are_drawn_evenly_and_by_the_generator_alone():
    policy, generator = ManifoldMix(stages=(0, 2, 3)), _seeded()
    draws = [policy.sample(3, (8, 8), generator) for _ in range(600)]
    counts = Counter(draw.stage for draw in draws)
    assert set(counts) == {0, 2, 3}
    assert min(counts.values()) > 150
    for seed in range(9):
        first, second = (ManifoldMix().sample(9, (8, 8), _seeded(seed)) for _ in range(2))
        assert (first.lam, first.stage, first.index.tolist()) == (second.lam, second.stage, second.index.tolist())


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_batch_of_one_is_the_clean_batch(stage):
    network, (images, targets) = build_backbone("cifar_resnet20", 4).eval(), _batch(1, (13, 9))
    result = ManifoldMix().apply(images, targets, StageDraw(0.3, torch.zeros(1, dtype=torch.int64), stage))
    assert_close(result.loss(network, lambda logits, _: logits), network(images))


@pytest.mark.parametrize(("dtype", "autocast"), [(torch.float32, True), (torch.bfloat16, False)])
def test_half_precision_keeps_labels_in_float32(dtype, autocast):
    images, targets = _batch()
    network = build_backbone("cifar_resnet20", 4).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = ManifoldMix().apply(images.to(dtype), targets, StageDraw(0.3, INDEX, 1))
        loss = result.loss(network, nn.CrossEntropyLoss())
    assert result.lam.dtype == result.soft_targets.dtype == torch.float32
    assert torch.isfinite(loss)


@pytest.mark.parametrize("stages", [(), (-1, 0)])
def test_bad_stages(stages):
    with pytest.raises(ValueError, match="manifoldmix: stages have to be one or more numbers from 0"):
        ManifoldMix(stages=stages)


def test_bad_alpha():
    with pytest.raises(ValueError, match="manifoldmix: alpha has to be positive, not 0"):
        ManifoldMix(alpha=0)


def test_a_stage_that_the_network_does_not_have():
    images, targets = _batch()
    result = ManifoldMix(stages=(4,))(images, targets, generator=_seeded())
    with pytest.raises(UserError, match="the feature layer is 4, but the backbone has stages 1 to 3"):
        result.loss(build_backbone("cifar_resnet20", 4), nn.CrossEntropyLoss())
