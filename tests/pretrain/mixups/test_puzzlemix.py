"""PuzzleMix: the energy of its masks, the permutations of its blocks, and what the pixels show."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain import mixups
from pretrain.mixups.block_transport import block_means, block_of_pixel, move_blocks, transport_plan, upsample
from pretrain.mixups.graph_cut import convex_cut
from pretrain.mixups.policy import MixContext
from pretrain.mixups.puzzlemix import BlockDraw, PuzzleMix

SWAP = torch.tensor([1, 0])


def _batch(n, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = (torch.rand((n, 3, *size), generator=generator) - 0.45) / 0.225
    return (
        images,
        F.one_hot(torch.arange(n), max(n, 2)).float(),
        _given(torch.rand((n, *size), generator=generator) ** 4),
    )


def _given(saliency):
    return MixContext(saliency=lambda images, targets: saliency)


def _left_and_right(size):
    """Two images, salient in one half each."""
    saliency = torch.full((2, *size), 1e-3)
    saliency[0, :, : size[1] // 2] = 1
    saliency[1, :, size[1] // 2 :] = 1
    return _given(saliency)


# Masks


def _defined_energy(policy, images, saliency, lam, mask):
    """Energy of a pair's mask of zeros and ones, from the images: hidden saliency, borders pixel by pixel, prior."""
    n, cell = len(mask), images.shape[-1] // len(mask)
    beta = policy.beta / n / 16
    mean, std = torch.tensor([[0.485, 0.456, 0.406], policy.std]).view(2, 3, 1, 1)
    images = (images * std + mean).numpy()
    energy = sum(saliency[mask[y, x], y, x] for y in range(n) for x in range(n))
    for (y, x), (dy, dx) in itertools.product(itertools.product(range(n), repeat=2), ((1, 0), (0, 1))):
        if y + dy == n or x + dx == n:
            continue
        first, second = images[1 - mask[y, x]], images[1 - mask[y + dy, x + dx]]
        top, left = y * cell, x * cell
        differences = []
        for step in range(0, cell, 4):  # neighbourhoods of 4 x 4 pixels along the border
            if dy:
                before = first[:, top + cell - 4 : top + cell, left + step : left + step + 4]
                after = second[:, top + cell : top + cell + 4, left + step : left + step + 4]
            else:
                before = first[:, top + step : top + step + 4, left + cell - 4 : left + cell]
                after = second[:, top + step : top + step + 4, left + cell : left + cell + 4]
            differences.append(np.abs(before.mean((1, 2)) - after.mean((1, 2))).mean())
        energy += beta * (mask[y, x] != mask[y + dy, x + dx]) + beta * policy.gamma * np.mean(differences)
    shown = mask.sum()
    return energy - policy.eta / n**2 * 2 * (shown * np.log(lam) + (n**2 - shown) * np.log(1 - lam))


def test_costs_are_those_of_the_definition():
    policy = PuzzleMix(gamma=2.0)  # beta and gamma as weighty as saliency, so that an error shows
    images, _, _ = _batch(2, (32, 32))
    rng = np.random.default_rng(0)
    saliency = rng.dirichlet(np.ones(16), size=2).reshape(2, 4, 4)
    unary, down, right = policy.costs(images, saliency, np.array([1, 0]), 0.3, (4, 4))
    for _ in range(20):
        mask = rng.integers(0, 2, (4, 4))
        labels = 2 * mask
        energy = np.take_along_axis(unary[0], labels[None], axis=0).sum()
        energy += (down[0] * np.abs(np.diff(mask, axis=0))).sum() + (right[0] * np.abs(np.diff(mask, axis=1))).sum()
        # The split leaves out, of each border, half of what a same pair costs: a constant, taken from a fixed mask.
        difference = energy - _defined_energy(policy, images, saliency, 0.3, mask)
        constant = unary[0, 0].sum() - _defined_energy(policy, images, saliency, 0.3, np.zeros((4, 4), int))
        assert_allclose(difference, constant, atol=1e-6)


def test_a_half_pays_half_and_the_binomial_prior():
    policy = PuzzleMix(eta=0.7)
    images, _, _ = _batch(3, (16, 16))
    saliency = np.random.default_rng(0).dirichlet(np.ones(4), size=3).reshape(3, 2, 2)
    partner = np.array([1, 2, 0])
    unary, _, _ = policy.costs(images, saliency, partner, 0.3, (2, 2))
    plain, _, _ = PuzzleMix(eta=0.0).costs(images, saliency, partner, 0.3, (2, 2))
    assert_allclose(plain[:, 1], (plain[:, 0] + plain[:, 2]) / 2)
    binomial = np.array([0.49, 0.42, 0.09])
    assert_allclose(unary - plain, np.broadcast_to((-0.7 / 4 * np.log(binomial))[:, None, None], unary.shape))


@pytest.mark.parametrize("lam", [0.1, 0.5, 0.8])
def test_energy_of_a_mask_is_least(lam):
    policy = PuzzleMix()
    images, _, _ = _batch(5, (24, 24))
    saliency = np.random.default_rng(1).dirichlet(np.full(9, 0.5), size=5).reshape(5, 3, 3)
    unary, down, right = policy.costs(images, saliency, np.array([1, 2, 3, 4, 0]), lam, (3, 3))
    every = np.array(list(itertools.product(range(3), repeat=9))).reshape(-1, 3, 3)
    for k, labels in enumerate(convex_cut(unary, down, right)):

        def energy(labelling, k=k):
            cells = sum((unary[k, label] * (labelling == label)).sum((-1, -2)) for label in range(3))
            steps = (down[k] * np.diff(labelling, axis=-2) ** 2).sum((-1, -2))
            return cells + (steps + (right[k] * np.diff(labelling, axis=-1) ** 2).sum((-1, -2))) / 4

        assert energy(labels) == energy(every).min()


def test_the_mask_is_where_the_saliency_is():
    images, targets, _ = _batch(2, (16, 32))
    context = _left_and_right((16, 32))
    mask = PuzzleMix().apply(images, targets, BlockDraw(0.5, SWAP, 4), context).mask
    expected = (torch.arange(32) < 16).float().expand(16, 32)
    assert torch.equal(mask[:, 0], torch.stack([expected, 1 - expected]))


def test_a_large_beta_gives_constant_masks():
    images, targets, context = _batch(6, (32, 32))
    index = torch.tensor([1, 2, 3, 4, 5, 0])
    varied, constant = (
        PuzzleMix(beta=beta).apply(images, targets, BlockDraw(0.5, index, 8), context).mask.flatten(1)
        for beta in (0.1, 1e4)
    )
    assert (varied.amax(1) > varied.amin(1)).all()
    assert torch.equal(constant.amax(1), constant.amin(1))


def test_std_undoes_the_normalisation():
    images, targets, context = _batch(4, (32, 32))
    draw = BlockDraw(0.5, torch.tensor([1, 2, 3, 0]), 8)
    masks = [
        PuzzleMix(gamma=1.0, std=(std,) * 3).apply(images * scale, targets, draw, context).mask
        for std, scale in ((0.25, 1), (0.5, 0.5), (0.01, 1))
    ]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_no_saliency_counts_as_equal_saliency():
    images, targets, _ = _batch(3, (16, 16))
    draw = BlockDraw(0.4, torch.tensor([1, 2, 0]), 4)
    none, equal = (PuzzleMix().apply(images, targets, draw, _given(torch.full((3, 16, 16), s))) for s in (0.0, 1.0))
    assert torch.equal(none.images, equal.images)


def test_saliency_has_to_be_finite():
    images, targets, _ = _batch(2, (16, 16))
    with pytest.raises(ValueError, match="puzzlemix: the saliency is not finite"):
        PuzzleMix()(images, targets, _given(torch.full((2, 16, 16), torch.nan)))


# Transport


def _costs(saliency, visible, eps, longer):
    h, w = saliency.shape
    y, x = np.divmod(np.arange(h * w), w)
    way = (np.subtract.outer(y, y) ** 2 + np.subtract.outer(x, x) ** 2) / (longer - 1) ** 2
    return eps * way - np.outer(saliency.ravel(), visible.ravel())


@pytest.mark.parametrize("grid", [(2, 2), (2, 3)])
def test_a_plan_is_that_of_brute_force(grid):
    rng = np.random.default_rng(0)
    cells = grid[0] * grid[1]
    saliency = rng.dirichlet(np.full(cells, 0.5), size=30).reshape(30, *grid)
    visible = rng.random((30, *grid)) < 0.5
    plan = transport_plan(saliency, visible, 0.1, (8 * grid[0], 8 * grid[1]))
    for k in range(30):
        costs = _costs(saliency[k], visible[k], 0.1, max(grid))
        every = np.array(list(itertools.permutations(range(cells))))
        totals = costs[every, np.arange(cells)].sum(1)
        assert_allclose(costs[plan[k], np.arange(cells)].sum(), totals.min(), atol=1e-12)
    assert 5 < (plan != np.arange(cells)).any(1).sum() < 30


@pytest.mark.parametrize("n", [4, 8, 16])
@pytest.mark.parametrize("eps", [0.1, 0.8, 5.0])
def test_a_plan_is_a_permutation_of_least_cost(n, eps):
    rng = np.random.default_rng(n)
    saliency = rng.dirichlet(np.full(n * n, 0.7), size=12).reshape(12, n, n)
    centre = (np.indices((n, n)).sum(0) - n)[None] / n
    visible = centre + 0.3 * rng.normal(size=(12, n, n)) < rng.normal(size=(12, 1, 1)) / 2
    plan = transport_plan(saliency, visible, eps, (2 * n, 4 * n))
    assert_array_equal(np.sort(plan, axis=1), np.broadcast_to(np.arange(n * n), plan.shape))
    for k in range(12):
        costs = _costs(saliency[k], visible[k], eps, n)
        cost = costs[plan[k], np.arange(n * n)].sum()
        assert cost <= np.trace(costs) + 1e-12
        assert_allclose(cost, costs[linear_sum_assignment(costs)].sum(), atol=1e-12)


def test_hidden_saliency_moves_to_where_it_is_seen():
    saliency = np.full((1, 4, 4), 1e-3)
    saliency[0, 1, 2] = 1
    visible = np.zeros((1, 4, 4), dtype=bool)
    visible[0, :, :2] = True
    plan = transport_plan(saliency, visible, 0.8, (16, 16)).reshape(4, 4)
    assert plan[1, 1] == 4 * 1 + 2
    assert (plan != np.arange(16).reshape(4, 4)).sum() == 2


def test_a_chain_of_short_moves_where_no_swap_pays():
    saliency, visible = np.zeros((1, 2, 4)), np.zeros((1, 2, 4), dtype=bool)
    saliency[0, 0, :3] = 0.5
    visible[0, 0, 1:] = True  # the corner's saliency comes in if the row moves by one and the row below moves back
    plan = transport_plan(saliency, visible, 0.5, (8, 16))
    assert_array_equal(plan[0, 1:4], [0, 1, 2])


@pytest.mark.parametrize("size", [(32, 32), (33, 18), (50, 31), (7, 40)])
def test_moved_blocks_are_whole(size):
    grid = (min(16, size[0]), 16)
    rng = np.random.default_rng(0)
    saliency = rng.dirichlet(np.full(grid[0] * grid[1], 0.1), size=3).reshape(3, *grid)
    visible = np.indices(grid).sum(0)[None].repeat(3, 0) < 16
    plan = transport_plan(saliency, visible, 0.2, size)
    assert (plan != np.arange(plan.shape[1])).any(1).all()
    pixels = torch.arange(3 * 2 * size[0] * size[1], dtype=torch.float64).view(3, 2, *size)
    before = pixels.clone()
    moved = move_blocks(pixels, plan, grid)
    assert torch.equal(pixels, before)
    # No pixel is lost or seen twice, and those of a place are those of its block, in order.
    assert torch.equal(moved.flatten(2).sort().values, pixels.flatten(2))
    rows, columns = (torch.from_numpy(block_of_pixel(size[k], grid[k])) for k in (0, 1))
    for k, j in itertools.product(range(3), range(0, grid[0] * grid[1], 7)):
        source, place = (pixels_[k][:, rows == b // 16][:, :, columns == b % 16] for pixels_, b in
                         ((pixels, plan[k, j]), (moved, j)))  # fmt: skip
        assert torch.equal(source, place)


def test_blocks_of_pixels():
    assert_array_equal(block_of_pixel(8, 4), [0, 0, 1, 1, 2, 2, 3, 3])
    assert np.bincount(block_of_pixel(33, 16)).tolist() == [3] + [2] * 15
    x = torch.rand(2, 3, 33, 20)
    means = block_means(x, (16, 4))
    assert_close(means[:, :, 0, 1], x[:, :, :3, 5:10].mean((2, 3)))
    assert_close(block_means(x, (11, 5)), F.avg_pool2d(x, (3, 4)))
    assert_close(block_means(upsample(means, (33, 20)), (16, 4)), means)


# The policy


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (33, 17), (7, 9), (1, 3)])
@pytest.mark.parametrize("seed", range(3))
def test_lam_is_the_mean_pixel(size, seed):
    _, targets, context = _batch(5, size, seed)
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, *size)
    result = PuzzleMix()(images, targets, context, torch.Generator().manual_seed(seed))
    assert_close(result.images.mean((1, 2, 3)), result.weights @ torch.arange(5.0))
    assert_close(result.soft_targets, result.weights)
    assert set(result.mask.unique().tolist()) <= {0, 0.5, 1}
    assert_close(result.mask.mean((1, 2, 3)), result.lam)


@pytest.mark.parametrize("blocks", [2, 4, 8, 16])
def test_lambda_one_is_the_identity_and_zero_is_the_partner(blocks):
    images, targets, context = _batch(4, (32, 48))
    index = torch.tensor([1, 2, 3, 0])
    one, zero = (PuzzleMix().apply(images, targets, BlockDraw(lam, index, blocks), context) for lam in (1.0, 0.0))
    assert torch.equal(one.images, images)
    assert torch.equal(one.soft_targets, targets)
    assert torch.equal(zero.images, images[index])
    assert torch.equal(zero.lam, torch.zeros(4))


def test_pixels_come_from_the_two_images():
    images, targets, context = _batch(4, (32, 32))
    index = torch.tensor([1, 2, 3, 0])
    result = PuzzleMix(eps=0.01, eta=0.0, beta=0.1).apply(images, targets, BlockDraw(0.5, index, 8), context)
    moved = 0
    for k in range(4):
        for value, source in ((1, images[k]), (0, images[index[k]])):
            shown = result.images[k][:, result.mask[k, 0] == value].T
            own = source.flatten(1).T
            assert (shown[:, None] == own).all(-1).any(1).all()
            moved += (shown != source[:, result.mask[k, 0] == value].T).sum()
    assert moved > 0


def test_moves_show_more_of_the_saliency_of_both_images():
    _, targets, _ = _batch(2, (32, 32))
    gained = 0.0
    for seed in range(6):
        saliency = torch.rand((2, 32, 32), generator=torch.Generator().manual_seed(seed)) ** 8
        images = torch.zeros(2, 3, 32, 32)
        images[0, 0], images[1, 1] = saliency  # channel k tells image k's saliency
        result = PuzzleMix(gamma=0.0, eps=0.2).apply(images, targets, BlockDraw(0.5, SWAP, 16), _given(saliency))
        for mixed, image in itertools.product(range(2), range(2)):
            share = result.mask[mixed, 0] if mixed == image else 1 - result.mask[mixed, 0]
            after = (result.images[mixed, image] / share)[share > 0].sum()
            before = saliency[image][share > 0].sum()
            assert after >= before - 1e-4
            gained += float(after - before)
    assert gained > 1


def test_draws():
    policy = PuzzleMix()
    draws = [policy.sample(6, (32, 32), torch.Generator().manual_seed(seed)) for seed in range(200)]
    counts = np.bincount([draw.blocks for draw in draws], minlength=17)
    assert set(np.flatnonzero(counts)) == {2, 4, 8, 16}
    assert counts[[2, 4, 8, 16]].min() > 30
    given = policy.sample(6, (32, 32), lam=0.25, index=torch.arange(6))
    assert given.lam == 0.25
    assert torch.equal(given.index, torch.arange(6))


def test_same_seed_same_mix_and_inputs_stay():
    images, targets, context = _batch(6, (32, 32))
    before, targets_before = images.clone(), targets.clone()
    first, second = (PuzzleMix()(images, targets, context, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(images, before)
    assert torch.equal(targets, targets_before)


def test_one_image_mixes_with_itself():
    images, targets, context = _batch(1, (16, 16))
    result = PuzzleMix()(images, targets, context, torch.Generator().manual_seed(0))
    assert_close(result.soft_targets, targets)


def test_bfloat16_and_autocast_keep_labels_float32():
    images, targets, context = _batch(4, (32, 32))
    with torch.autocast("cpu", torch.bfloat16):
        result = PuzzleMix()(images.bfloat16(), targets, context, torch.Generator().manual_seed(1))
    assert result.images.dtype == torch.bfloat16
    assert result.lam.dtype == result.mask.dtype == result.soft_targets.dtype == torch.float32


def test_saliency_of_a_network():
    images, targets, _ = _batch(4, (16, 16))
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(4))

    def saliency(images, targets):
        leaf = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(network(leaf), targets), leaf)
        return gradient.square().mean(1).sqrt()

    result = mixups.build("puzzlemix")(images, targets, MixContext(saliency=saliency), torch.Generator().manual_seed(0))
    assert result.images.isfinite().all()
    assert not result.images.requires_grad


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0.0}, "puzzlemix: alpha"),
        ({"beta": -1.0}, "puzzlemix: beta"),
        ({"gamma": float("nan")}, "puzzlemix: gamma"),
        ({"eta": float("inf")}, "puzzlemix: eta"),
        ({"eps": 0.0}, "puzzlemix: eps"),
        ({"eps": float("inf")}, "puzzlemix: eps"),
        ({"std": (0.2, 0.0, 0.2)}, "puzzlemix: std"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        PuzzleMix(**settings)


def test_the_context_has_to_give_saliency():
    images, targets, _ = _batch(2, (16, 16))
    with pytest.raises(ValueError, match="puzzlemix: the context has no saliency"):
        PuzzleMix()(images, targets, MixContext())
