"""Co-Mixup: its objective against loops, its labellings against brute force, its labels against the pixels."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain import mixups
from pretrain.mixups.comixup import BLOCKS, CoMixup
from pretrain.mixups.comixup_labels import Problem, minimise, objective, sweep
from pretrain.mixups.grid_labels import label_grid
from pretrain.mixups.policy import MixContext

EDGES = [((y, x), (y + dy, x + dx)) for y in range(4) for x in range(4) for dy, dx in ((0, 1), (1, 0))]


def _saliency(n, height=32, width=32, seed=0):
    """A bright spot at a place of its own on a speckled ground, for each image."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.rand((2, n, 1, 1), generator=generator)
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    spot = torch.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 0.08)
    return (0.25 + spot) * -torch.log(torch.rand((n, height, width), generator=generator) + 1e-3).clamp(max=-0.01)


def _mix(n, height=32, width=32, seed=0, saliency=None, **settings):
    """Mix class-coded images: image i is the constant i."""
    images = torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 3, height, width).clone()
    maps = _saliency(n, height, width, seed) if saliency is None else saliency
    context = MixContext(saliency=lambda images, targets: maps)
    return CoMixup(**settings)(images, torch.eye(n), context, torch.Generator().manual_seed(seed))


def _problem(n, seed=0, **settings):
    policy = CoMixup(**settings)
    return policy.problem(_saliency(n, seed=seed), policy.sample(n, (32, 32), torch.Generator().manual_seed(seed)))


def _value(problem, masks, partition):
    """The docstring's formula, term by term."""
    size, (height, width) = problem.sizes[partition], masks.shape[2:4]
    z, n = masks[partition][:size].astype(np.float64), height * width
    o = z.sum((1, 2))
    total = 0.0
    for j in range(size):
        for y, x in np.ndindex(height, width):
            total += problem.costs[partition][y, x] @ z[j, y, x]
            for below, right in ((y + 1, x), (y, x + 1)):
                if below < height and right < width:
                    total += problem.beta / n * ((z[j, y, x] - z[j, below, right]) ** 2).sum() / 2
        shown = problem.compatibility[partition] @ sum(o[other] for other in range(size) if other != j)
        total += problem.gamma / n * sum(o[j, i] * shown[i] for i in range(size) if shown[i] > problem.tau * n)
    return total


def _tiny(tau, seed):
    """Three images on two by two blocks, far from indifferent to each other, and random masks."""
    generator = np.random.default_rng(seed)
    costs = -generator.random((1, 2, 2, 3)) / 4
    compatibility = 0.7 * np.eye(3) + 0.3 * (lambda c: c + c.T)(generator.random((3, 3)))
    start = np.eye(3)[generator.integers(0, 3, (1, 3, 2, 2))]
    return Problem(costs, compatibility[None], [3], beta=0.3, gamma=0.1, tau=tau), start


def _energy(unary, pairwise, labels):
    """The energies of labellings (..., H, W) of one grid."""
    height, width, _ = unary.shape
    total = sum(unary[y, x][labels[..., y, x]] for y, x in np.ndindex(height, width))
    for (y, x), (y2, x2) in EDGES:
        if y2 < height and x2 < width:
            total = total + pairwise[labels[..., y, x], labels[..., y2, x2]]
    return total


@pytest.mark.parametrize("seed", range(5))
def test_objective_is_the_formula(seed):
    problem, start = _problem(23, seed, partition=12, omega=0.3)
    masks = sweep(problem, sweep(problem, start, halves=False), halves=True)
    assert problem.sizes == [12, 11]
    assert (masks == 0.5).any((1, 2, 3, 4)).all()
    for z in (start, masks):
        np.testing.assert_allclose(
            objective(problem, z), [_value(problem, z, p) for p in range(2)], rtol=1e-5, atol=1e-4
        )


@pytest.mark.parametrize("seed", range(20))
def test_labels_of_a_tiny_grid_are_optimal(seed):
    generator = np.random.default_rng(seed)
    unary, places = generator.random((2, 2, 2, 6)) / 5, generator.random((2, 6, 3))
    pairwise = ((places[:, :, None] - places[:, None]) ** 2).sum(3) / 5
    every = np.array(list(itertools.product(range(6), repeat=4))).reshape(-1, 2, 2)
    chosen = label_grid(unary, pairwise, candidates=6)
    for p in range(2):
        assert_close(_energy(unary[p], pairwise[p], chosen[p]), _energy(unary[p], pairwise[p], every).min())


@pytest.mark.parametrize("seed", range(3))
def test_labels_of_the_whole_grid_are_optimal(seed):
    unary = np.random.default_rng(seed).random((1, 4, 4, 2)) / 10
    pairwise = np.array([[[0, 0.02], [0.02, 0]]])
    every = np.array(list(itertools.product(range(2), repeat=16))).reshape(-1, 4, 4)
    chosen = label_grid(unary, pairwise)
    assert_close(_energy(unary[0], pairwise[0], chosen[0]), _energy(unary[0], pairwise[0], every).min())


@pytest.mark.parametrize("strength", [0.005, 0.02, 0.1, 1.0])
def test_few_candidates_are_enough(strength):
    generator = np.random.default_rng(0)
    unary = -generator.dirichlet(np.full(16, 8.0), (40, 20)).reshape(40, 20, 4, 4).transpose(0, 2, 3, 1)
    pairwise = np.broadcast_to(strength * (1 - np.eye(20)), (40, 20, 20))
    few, many = label_grid(unary, pairwise), label_grid(unary, pairwise, candidates=8)
    energy = [[_energy(*grid) for grid in zip(unary, pairwise, labels)] for labels in (few, many)]
    assert (np.array(energy[0]) <= unary.sum((1, 2)).min(1) + 1e-9).all()  # of one label everywhere
    assert np.mean(energy[0]) <= 0.99 * np.mean(energy[1])  # both are negative
    assert (np.array(energy[1]) <= np.array(energy[0]) + 1e-9).all()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("halves", [False, True])
def test_an_output_is_the_best_with_the_others_fixed(seed, halves):
    # With tau = 0 the modular approximation is exact, so that the last output of a sweep is optimal in f itself.
    problem, start = _tiny(0.0, seed)
    before = sweep(problem, start, halves=False) if halves else start
    masks = sweep(problem, before, halves)
    counts = before[0, 2].sum((0, 1))
    shared = [(np.eye(3)[a] + np.eye(3)[b]) / 2 for a in range(3) for b in range(a) if halves and counts[[a, b]].all()]
    labels = np.array([*np.eye(3), *shared])
    best = np.inf
    for chosen in itertools.product(range(len(labels)), repeat=4):
        other = masks.copy()
        other[0, 2] = labels[list(chosen)].reshape(2, 2, 3)
        best = min(best, _value(problem, other, 0))
    assert_close(_value(problem, masks, 0), best, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_objective_does_not_rise(seed):
    problem, start = _problem(45, seed)
    values = np.array([objective(problem, minimise(problem, start, sweeps)) for sweeps in range(1, 7)])
    assert (np.diff(values, axis=0) <= 0).all()
    assert (values[3] < values[0]).any()  # the published number of sweeps is worth it
    assert (values[0] < objective(problem, start)).all()


@pytest.mark.parametrize("seed", range(5))
def test_no_sweep_raises_the_objective_without_tau(seed):
    # The modular approximation is exact, and so are the labels: a partition has as many images as blocks candidates.
    problem, masks = _problem(20, seed, partition=5, tau=0.0, omega=0.3, gamma=0.02)
    values = [objective(problem, masks)]
    for _ in range(4):
        masks = sweep(problem, masks, halves=False)
        values.append(objective(problem, masks))
    assert (np.diff(values, axis=0) <= 1e-5).all()


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (24, 82), (7, 6), (3, 5)])
@pytest.mark.parametrize("n", [1, 2, 21])
def test_masks_images_and_labels_agree(size, n):
    images, targets = torch.randn((n, 3, *size)), torch.rand((n, 10)).softmax(1)
    before, context = images.clone(), MixContext(saliency=lambda images, targets: _saliency(len(images), *size))
    result = CoMixup()(images, targets, context, torch.Generator().manual_seed(0))
    assert torch.equal(images, before)
    assert result.mask.shape == (n, n, BLOCKS, BLOCKS)
    assert torch.equal(result.mask.sum(1), torch.ones((n, BLOCKS, BLOCKS)))
    assert set(result.mask.unique().tolist()) <= {0.0, 0.5, 1.0}
    full = F.interpolate(result.mask, size=size, mode="nearest")
    assert_close(result.images, torch.einsum("jihw,ichw->jchw", full, images))
    assert_close(result.weights, full.mean((2, 3)))
    assert_close(result.soft_targets, full.mean((2, 3)) @ targets)
    assert result.lam is None
    assert result.index is None


@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_labels_are_those_of_the_pixels(size):
    result = _mix(21, *size)
    assert_close(result.images.mean((1, 2, 3)), result.weights @ torch.arange(21, dtype=torch.float32))
    assert_close(result.soft_targets, result.weights)


def test_one_image_is_itself():
    images = torch.randn((1, 3, 9, 13))
    context = MixContext(saliency=lambda images, targets: torch.zeros((1, 9, 13)))
    result = CoMixup()(images, torch.tensor([[0.0, 1.0]]), context)
    assert torch.equal(result.images, images)
    assert torch.equal(result.soft_targets, torch.tensor([[0.0, 1.0]]))


def test_blocks_show_the_most_salient_image():
    saliency = torch.ones((2, 32, 32))
    saliency[0, :, :16] = saliency[1, :, 16:] = 3
    result = _mix(2, saliency=saliency, gamma=0.0)
    assert torch.equal(result.images[:, 0], torch.arange(32).ge(16).float().expand(2, 32, 32))


def test_the_scale_of_saliency_does_not_matter():
    saliency = _saliency(16) * 2.0 ** torch.arange(-8, 8)[:, None, None]
    assert torch.equal(_mix(16, saliency=saliency).mask, _mix(16, saliency=_saliency(16)).mask)


def test_smoothness_leaves_one_image():
    assert (_mix(8, beta=0.0, gamma=0.0).weights > 0).sum(1).min() > 3
    assert (_mix(8, beta=100.0, gamma=0.0).weights > 0).sum(1).max() == 1


@pytest.mark.parametrize("seed", range(5))
def test_diversity(seed):
    alike, mixed, apart = (_mix(16, seed=seed, **settings).weights for settings in ({"gamma": 0.0}, {}, {"tau": 0.0}))
    assert_close(alike, alike[:1].expand(16, 16))
    assert_close(apart.sum(0), torch.ones(16))  # each image its own output, as any overlap costs
    assert_close(apart.amax(1), torch.ones(16))
    assert 1.5 < (mixed > 0).sum(1).float().mean() < 4
    assert len(torch.unique(mixed, dim=0)) == 16


@pytest.mark.parametrize("seed", range(5))
def test_every_image_is_shown(seed):
    shown = _mix(64, seed=seed).weights.sum(0)
    assert shown.min() > 0.25
    assert shown.max() < 2


def test_compatibility_is_the_distance_of_salient_regions():
    saliency = torch.full((3, 32, 32), 0.01)
    saliency[0, 0:8, 0:8] = saliency[1, 0:8, 10:18] = saliency[2, 20:28, 0:8] = 1
    policy = CoMixup(omega=0.25)
    problem, _ = policy.problem(saliency, policy.sample(3, (32, 32)))
    distances = np.array([[0, 10, 20], [10, 0, 30], [20, 30, 0]])
    expected = 0.75 * np.eye(3) + 0.25 * distances / (distances.sum() / 3)
    assert_close(problem.compatibility[0], expected.astype(np.float32))


def test_prior_is_a_dirichlet_distribution_in_each_partition():
    generator = torch.Generator().manual_seed(0)
    policy = CoMixup(alpha=0.7, partition=4)
    drawn = torch.stack([policy.sample(7, (8, 8), generator).log_prior.exp() for _ in range(1000)])
    assert_close(drawn[:, :4].sum(1), torch.ones(1000, dtype=torch.float64), atol=1e-6, rtol=0)
    assert_close(drawn[:, 4:].sum(1), torch.ones(1000, dtype=torch.float64), atol=1e-6, rtol=0)
    assert stats.kstest(drawn[:, 1].numpy(), stats.beta(0.7, 3 * 0.7).cdf).pvalue > 0.01
    assert stats.kstest(drawn[:, 6].numpy(), stats.beta(0.7, 2 * 0.7).cdf).pvalue > 0.01


def test_a_strong_prior_chooses():
    prior = CoMixup(eta=1000.0).sample(6, (32, 32), torch.Generator().manual_seed(0)).log_prior
    weights = _mix(6, eta=1000.0, gamma=0.0).weights
    assert_close(weights, F.one_hot(prior.argmax(), 6).float().expand(6, 6))


@pytest.mark.parametrize(("n", "sizes"), [(20, [20]), (21, [11, 10]), (45, [15, 15, 15]), (64, [16] * 4)])
def test_partitions_do_not_mix(n, sizes):
    together = torch.block_diag(*(torch.ones((size, size)) for size in sizes))
    saliency = _saliency(n)
    weights = _mix(n, saliency=saliency).weights
    assert (weights[together == 0] == 0).all()
    if len(sizes) > 1:
        last = slice(n - sizes[-1], n)
        saliency[last] = saliency[last].roll(1, dims=0)
        changed = _mix(n, saliency=saliency).weights
        assert torch.equal(changed[: last.start], weights[: last.start])
        assert not torch.equal(changed[last], weights[last])


def test_a_seed_decides():
    first, second, other = _mix(21, seed=3), _mix(21, seed=3), _mix(21, seed=4)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.soft_targets, second.soft_targets)
    assert not torch.equal(first.images, other.images)


def test_low_precision_leaves_labels_and_masks_alone():
    images, targets = torch.randn((10, 3, 16, 16)), torch.eye(10)
    context = MixContext(saliency=lambda images, targets: _saliency(10, 16, 16))
    exact = CoMixup()(images, targets, context, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        rough = CoMixup()(images.bfloat16(), targets.bfloat16(), context, torch.Generator().manual_seed(0))
    assert rough.images.dtype == torch.bfloat16
    assert rough.soft_targets.dtype == rough.mask.dtype == torch.float32
    assert torch.equal(rough.mask, exact.mask)
    assert torch.equal(rough.soft_targets, exact.soft_targets)


def test_what_is_given_is_kept():
    draw = CoMixup().sample(3, (8, 8), lam=0.3, index=torch.tensor([2, 0, 1]))
    assert (draw.lam, draw.index.tolist()) == (0.3, [2, 0, 1])


def test_saliency_is_needed():
    with pytest.raises(ValueError, match="comixup: the context has no saliency"):
        mixups.build("comixup")(torch.zeros((2, 3, 8, 8)), torch.eye(2))


@pytest.mark.parametrize(
    ("key", "value"),
    [("alpha", 0.0), ("partition", 0), ("iterations", 0), ("beta", -1.0), ("gamma", -1.0), ("tau", float("nan"))]
    + [("eta", -0.1), ("omega", 1.1)],
)
def test_bad_settings(key, value):
    with pytest.raises(ValueError, match=f"comixup: {key} has to be .*{value}"):
        replace(CoMixup(), **{key: value})
