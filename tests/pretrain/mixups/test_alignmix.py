"""AlignMix: the plan against its marginals and the Hungarian assignment, aligned features against known positions."""

from functools import partial

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain import mixups
from pretrain.backbones import build_backbone, stage_features
from pretrain.mixups import alignmix
from pretrain.mixups.alignmix import AlignDraw, AlignMix, align, sinkhorn

INDEX = torch.tensor([2, 0, 1, 4, 3])
SIDES = pytest.mark.parametrize("to_partner", [False, True])
_align = partial(align, eps=1e-3, iterations=100)


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def _batch(n=5, size=(16, 24)):
    return torch.randn(n, 3, *size, generator=_seeded(1)), F.one_hot(torch.arange(n) % 4, 4).float()


def _features(n=3, channels=16, size=(3, 5)):
    return torch.randn(n, channels, *size, generator=_seeded(2))


def _moved(features, positions):
    """Move what is at positions[..., k] to position k, (N, C, h, w)."""
    flat = features.flatten(2)
    return flat.gather(2, positions[:, None].expand_as(flat)).view_as(features)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 30.0, 1000.0, 1e5])
@pytest.mark.parametrize("iterations", [1, 2, 100])
def test_marginals_are_uniform(scale, iterations):
    cost = scale * torch.rand(4, 49, 49, generator=_seeded())
    plan = sinkhorn(cost, 0.1, iterations)
    assert plan.min() >= 0
    for dim in (1, 2):
        assert_close(plan.sum(dim) * 49, torch.ones(4, 49), atol=1e-4, rtol=0)


def test_the_plan_is_the_optimum_of_the_entropic_problem():
    """log P = (f_i + g_j - cost_ij) / eps is what marks the optimum (Peyre and Cuturi, Computational OT, Prop. 4.3)."""
    cost = torch.rand(4, 9, 9, generator=_seeded(), dtype=torch.float64)
    scaled = 0.1 * sinkhorn(cost, 0.1, 200).log() + cost
    assert_close(scaled, scaled[:, :, :1] + scaled[:, :1] - scaled[:, :1, :1], atol=1e-8, rtol=0)


def test_small_eps_nears_the_hungarian_assignment():
    cost = torch.rand(8, 16, 16, generator=_seeded())
    best = torch.tensor([matrix[linear_sum_assignment(matrix)].mean() for matrix in cost.numpy()])
    gaps = [((sinkhorn(cost, eps, 1000) * cost).sum((1, 2)) - best) for eps in (1.0, 0.1, 0.01, 0.001)]
    means = [gap.mean().item() for gap in gaps]
    assert all(gap.min() > -1e-5 for gap in gaps)
    assert means == sorted(means, reverse=True)
    assert means[0] > 0.2
    assert means[-1] < 1e-3


def test_raw_features_of_any_scale_reach_a_good_plan_in_the_default_iterations():
    for scale in (0.3, 1.0, 3.0):
        first, second = (scale * torch.randn(4, 49, 256, generator=_seeded(seed)) for seed in (0, 1))
        cost = torch.cdist(first, second).square()
        best = torch.tensor([matrix[linear_sum_assignment(matrix)].mean() for matrix in cost.numpy()])
        gap = (sinkhorn(cost, 0.1, 100) * cost).sum((1, 2)) - best
        assert (gap < 0.02 * (cost.mean((1, 2)) - best) + 0.15).all()  # 0.1 * log(49) / 2: what the entropy may cost


@SIDES
def test_moved_positions_are_found_back(to_partner):
    own = _features()
    positions = torch.stack([torch.randperm(15, generator=_seeded(seed)) for seed in range(3)])
    other = _moved(own, positions)
    expected = other if to_partner else own
    assert_close(_align(own, other, lam=0.4, to_partner=to_partner), expected, atol=1e-4, rtol=0)
    assert not torch.allclose(own, other)


@SIDES
def test_the_side_that_stays_keeps_its_positions(to_partner):
    own, other = _features(), _features() + 0.1 * torch.randn(3, 16, 3, 5, generator=_seeded(5))
    positions = torch.stack([torch.randperm(15, generator=_seeded(seed)) for seed in range(3)])
    there = _moved(other, positions)
    mixed = _align(own, there, lam=0.25, to_partner=to_partner)
    by_hand = 0.25 * own + 0.75 * other
    assert_close(mixed, _moved(by_hand, positions) if to_partner else by_hand, atol=1e-4, rtol=0)


@SIDES
def test_identical_features_stay(to_partner):
    features = _features()
    assert_close(_align(features, features, lam=0.3, to_partner=to_partner), features, atol=1e-4, rtol=0)
    # At a large eps the plan is uniform and blurs the side that moves to its mean.
    blurred = align(features, features, lam=0.3, to_partner=to_partner, eps=1e6, iterations=100)
    stays = 0.7 if to_partner else 0.3
    expected = stays * features + (1 - stays) * features.mean((2, 3), keepdim=True)
    assert_close(blurred, expected, atol=1e-4, rtol=0)


@SIDES
@pytest.mark.parametrize("eps", [0.1, 10.0])
def test_the_mean_over_positions_is_that_of_a_plain_mix(eps, to_partner):
    own, other = _features(), _features().flip(0).sin()
    mixed = align(own, other, lam=0.3, to_partner=to_partner, eps=eps, iterations=100)
    assert_close(mixed.mean((2, 3)), (0.3 * own + 0.7 * other).mean((2, 3)), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(mixed, 0.3 * own + 0.7 * other, atol=0.1)


def test_lam_1_is_clean():
    own, other = _features(), _features().flip(0)
    assert torch.equal(_align(own, other, lam=1.0, to_partner=False), own)
    network, (images, targets) = build_backbone("cifar_resnet20", 4).eval(), _batch()
    result = AlignMix().apply(images, targets, AlignDraw(1.0, INDEX, in_features=True, to_partner=False))
    assert_close(result.loss(network, lambda logits, _: logits), network(images))
    assert torch.equal(result.soft_targets, targets)


@SIDES
def test_the_loss_is_the_one_by_hand(to_partner):
    torch.manual_seed(0)
    network, (images, targets) = build_backbone("cifar_resnet20", 4).eval(), _batch()
    draw = AlignDraw(0.3, INDEX, in_features=True, to_partner=to_partner)
    result = AlignMix().apply(images, targets, draw)
    maps = stage_features(network, images, 3)
    mixed = align(maps, maps[INDEX], lam=0.3, to_partner=to_partner, eps=0.1, iterations=100)
    logits = network.forward_head(mixed).log_softmax(1)
    by_hand = -((0.3 * targets + 0.7 * targets[INDEX]) * logits).sum(1).mean()
    assert_close(result.loss(network, nn.CrossEntropyLoss()), by_hand)
    assert torch.equal(result.images, images)
    assert result.mask is None
    assert torch.equal(result.lam, torch.full((5,), 0.3))


def test_input_batches_are_mixup():
    images, targets = _batch()
    before = images.clone()
    ours = AlignMix().apply(images, targets, AlignDraw(0.3, INDEX, in_features=False, to_partner=True))
    theirs = mixups.build("mixup")
    theirs = theirs.apply(images, targets, theirs.sample(5, (16, 24), lam=0.3, index=INDEX))
    for field in ("images", "mask", "lam", "index", "soft_targets"):
        assert torch.equal(getattr(ours, field), getattr(theirs, field))
    assert torch.equal(images, before)


@SIDES
def test_gradients_go_through_the_features_and_not_through_the_plan(to_partner, monkeypatch):
    own, other = _features().requires_grad_(), _features().flip(0).clone().requires_grad_()
    weight = torch.randn(3, 16, 3, 5, generator=_seeded(7))
    costs, plans = [], []

    def watched(cost, *arguments):
        costs.append(cost)
        plans.append(sinkhorn(cost, *arguments))
        return plans[-1]

    monkeypatch.setattr(alignmix, "sinkhorn", watched)
    (_align(own, other, lam=0.3, to_partner=to_partner) * weight).sum().backward()
    [plan], [cost] = plans, costs
    assert not plan.requires_grad
    assert_close(cost, ((own.flatten(2)[:, :, :, None] - other.flatten(2)[:, :, None, :]) ** 2).sum(1).detach())
    # The mix is linear in the features once the plan is fixed, so that its gradient is the transposed plan's work.
    given, moved = weight.flatten(2), 15 * (plan @ weight.flatten(2).mT).mT
    back = 15 * (plan.mT @ weight.flatten(2).mT).mT
    assert_close(own.grad.flatten(2), 0.3 * (moved if to_partner else given), atol=1e-5, rtol=1e-4)
    assert_close(other.grad.flatten(2), 0.7 * (given if to_partner else back), atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_first_layer():
    network, (images, targets) = build_backbone("cifar_resnet20", 4), _batch()
    draw = AlignDraw(0.3, INDEX, in_features=True, to_partner=True)
    AlignMix().apply(images, targets, draw).loss(network, nn.CrossEntropyLoss()).backward()
    assert network.conv1.weight.grad.abs().sum() > 0


@SIDES
def test_a_batch_of_one(to_partner):
    network, (images, targets) = build_backbone("cifar_resnet20", 4).eval(), _batch(1, (20, 12))
    draw = AlignDraw(0.3, torch.zeros(1, dtype=torch.int64), in_features=True, to_partner=to_partner)
    result = AlignMix().apply(images, targets, draw)
    assert_close(result.loss(network, lambda logits, _: logits), network(images))


@pytest.mark.parametrize("name", ["efficientnet_b0", "swin_tiny_patch4_window7_224"])
def test_networks_with_more_behind_the_last_stage(name):
    torch.manual_seed(0)
    options = {"img_size": (64, 96), "depths": (1, 1, 1, 1)} if "swin" in name else {}
    network, (images, targets) = build_backbone(name, 4, **options), _batch(size=(64, 96))
    network.train(name == "efficientnet_b0")  # whose running statistics fit no features yet
    network.get_classifier().weight.data.normal_()
    draws = [AlignDraw(0.0, INDEX, in_features=True, to_partner=side) for side in (True, False)]
    stays, moves = (AlignMix(eps=1e4).apply(images, targets, d).loss(network, lambda y, _: y) for d in draws)
    assert_close(stays, network(images)[INDEX], atol=1e-3, rtol=1e-3)  # lam = 0: the partner's map, unmoved
    assert not torch.allclose(moves, stays, atol=1e-2)  # the partner's map, blurred


def test_tokens_are_refused():
    network, (images, targets) = (
        build_backbone("deit_small_patch16_224", 4, img_size=32, depth=4),
        _batch(size=(32, 32)),
    )
    result = AlignMix().apply(images, targets, AlignDraw(0.3, INDEX, in_features=True, to_partner=True))
    with pytest.raises(ValueError, match=r"alignmix: needs feature maps \(N, C, h, w\).*\(5, 5, 384\)"):
        result.loss(network, nn.CrossEntropyLoss())
    assert not any(module._forward_hooks for module in network.modules())


def test_the_plan_is_in_float32_under_autocast(monkeypatch):
    seen = []
    monkeypatch.setattr(alignmix, "sinkhorn", lambda *arguments: seen.append(sinkhorn(*arguments)) or seen[-1])
    own = _features().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = _align(own, own.flip(0), lam=0.3, to_partner=True)
    assert mixed.dtype == torch.bfloat16
    assert seen[0].dtype == torch.float32
    assert_close(seen[0].sum(1) * 15, torch.ones(3, 15), atol=1e-4, rtol=0)
    alone = _align(own.float(), own.flip(0).float(), lam=0.3, to_partner=True)
    assert torch.equal(mixed, alone.bfloat16())


def test_draws():
    generator = _seeded()
    draws = [AlignMix().sample(3, (8, 8), generator) for _ in range(400)]
    for coin in ("in_features", "to_partner"):
        assert 150 < sum(getattr(draw, coin) for draw in draws) < 250
    assert 60 < sum(draw.in_features and draw.to_partner for draw in draws) < 140
    first, second = (AlignMix().sample(9, (8, 8), _seeded(3)) for _ in range(2))
    assert first.index.tolist() == second.index.tolist()
    assert (first.lam, first.in_features, first.to_partner) == (second.lam, second.in_features, second.to_partner)
    given = AlignMix().sample(2, (8, 8), _seeded(), lam=0.25, index=torch.tensor([1, 0]))
    assert (given.lam, given.index.tolist()) == (0.25, [1, 0])


def test_the_same_seed_gives_the_same_loss():
    network, (images, targets) = build_backbone("cifar_resnet20", 4).eval(), _batch()
    losses = [
        AlignMix()(images, targets, generator=_seeded(seed)).loss(network, nn.CrossEntropyLoss()).item()
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("setting", ["alpha", "eps", "iterations"])
def test_bad_settings(setting):
    with pytest.raises(ValueError, match=f"alignmix: {setting} has to be positive, not 0"):
        AlignMix(**{setting: 0})
