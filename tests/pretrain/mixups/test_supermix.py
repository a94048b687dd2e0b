"""SuperMix: masks, objective and success against libraries and theory, and a teacher that stays as it is."""

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain.mixups.policy import MixContext
from pretrain.mixups.supermix import SuperMix, all_first, blend, objective, upsampled

N, CLASSES, SIZE = 12, 20, (24, 40)
POOLED = 3 * 6 * 10


@pytest.fixture(scope="module")
def teacher():
    """A linear teacher, sure enough of itself to need several steps."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(POOLED, CLASSES))
    nn.init.normal_(network[2].weight, std=1.0)
    return network.eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(N, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def targets(teacher, images):
    return F.one_hot(teacher(images).argmax(1), CLASSES).float()


def draws(policy, n=N, seed=0, **given):
    draw = policy.sample(n, SIZE, torch.Generator().manual_seed(seed), **given)
    return draw, policy.choose(draw.index), draw.shares


def mix(policy, images, targets, teacher, seed=0):
    return policy(images, targets, MixContext(teacher=teacher), torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sources", [2, 3])
def test_masks_sum_to_one_over_the_sources_at_each_pixel(teacher, images, sources):
    policy = SuperMix(sources=sources)
    _, chosen, shares = draws(policy)
    found = policy.optimise(images, chosen, shares, teacher)
    assert found.masks.shape == (N, sources, *SIZE)
    assert_close(found.masks.sum(1), torch.ones(N, *SIZE))
    assert 0 <= found.masks.min() < 0.1 < 0.9 < found.masks.max() <= 1  # and they are no longer even


@pytest.mark.parametrize("size", [(24, 40), (33, 17)])
def test_masks_are_upsampled_as_torch_does_it(size):
    grids = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    one_by_one = torch.sigmoid(F.interpolate(grids, size=size, mode="bilinear", align_corners=False))
    assert_close(upsampled(grids, size), one_by_one / one_by_one.sum(1, keepdim=True))


def test_the_objective_is_the_kl_divergence_of_the_library_and_the_mean_of_the_masks_product():
    generator = torch.Generator().manual_seed(0)
    logits, wanted = torch.randn(5, 4, generator=generator), torch.rand(5, 4, generator=generator).softmax(1)
    masks = torch.rand(5, 2, 6, 7, generator=generator)
    kl = [stats.entropy(t, q) for t, q in zip(wanted.numpy(), logits.softmax(1).numpy())]
    rest = [25 * np.abs(m * (m - 1)).mean() for m in masks.numpy()]
    assert_close(objective(masks, logits, wanted, 25.0), torch.tensor(np.add(kl, rest)), check_dtype=False)
    library = torch.distributions.kl_divergence(
        torch.distributions.Categorical(probs=wanted), torch.distributions.Categorical(logits=logits)
    )
    assert_close(objective(masks, logits, wanted, 0.0), library)
    absent = torch.tensor([[0.25, 0.75, 0.0, 0.0]])  # classes of weight zero add nothing
    assert_close(
        objective(masks[:1], logits[:1], absent, 0.0), torch.tensor([stats.entropy(absent[0], logits.softmax(1)[0])])
    )


def test_the_first_step_is_newtons_along_the_smoothed_gradient(teacher, images):
    """One step from even masks, computed anew with F.interpolate and scipy's Gaussian filter."""
    policy = SuperMix(max_steps=1, sigma=1.3)
    _, chosen, shares = draws(policy)
    found = policy.optimise(images, chosen, shares, teacher)

    grids = torch.zeros(N, 2, 8, 8, requires_grad=True)
    masks = torch.sigmoid(F.interpolate(grids, size=SIZE, mode="bilinear", align_corners=False))
    masks = masks / masks.sum(1, keepdim=True)
    mixed = masks[:, :1] * images[chosen[:, 0]] + masks[:, 1:] * images[chosen[:, 1]]
    wanted = sum(shares[:, k, None] * F.one_hot(teacher(images[chosen[:, k]]).argmax(1), CLASSES) for k in range(2))
    losses = F.kl_div(teacher(mixed).log_softmax(1), wanted, reduction="none").sum(1)
    losses = losses + 25 * (masks * (masks - 1)).abs().mean((1, 2, 3))
    [gradient] = torch.autograd.grad(losses.sum(), grids)
    smooth = torch.from_numpy(ndimage.gaussian_filter(gradient.numpy(), (0, 0, 1.3, 1.3), mode="constant", radius=3))
    slope = (gradient * smooth).flatten(1).sum(1)
    after = -(losses.detach() / slope).clamp(1e-4, 2000)[:, None, None, None] * smooth
    # Along the step the objective would fall to zero, were it linear.
    free = losses.detach() / slope < 2000
    assert free.sum() > N / 2
    assert_close((gradient * after).flatten(1).sum(1)[free], -losses.detach()[free])
    after = torch.sigmoid(F.interpolate(after, size=SIZE, mode="bilinear", align_corners=False))
    assert_close(found.masks, after / after.sum(1, keepdim=True), atol=1e-4, rtol=1e-3)
    assert_close(found.targets, wanted)


def test_the_objective_falls(teacher, images):
    policy = SuperMix()
    _, chosen, shares = draws(policy)
    found = policy.optimise(images, chosen, shares, teacher)
    even = torch.full_like(found.masks, 0.5)
    with torch.no_grad():
        start = objective(even, teacher(images[chosen].mean(1)), found.targets, 25.0)
        assert_close(found.logits, teacher(blend(images[chosen], found.masks)), atol=1e-4, rtol=1e-4)
    end = objective(found.masks, found.logits, found.targets, 25.0)
    assert (end < start).float().mean() > 0.9  # a step that goes too far may yet show all classes, which ends a mix
    assert end.mean() < 0.5 * start.mean()


def test_success_is_the_first_classes_being_those_of_the_sources(teacher, images):
    policy = SuperMix(max_steps=2)
    _, chosen, shares = draws(policy, seed=3)
    found = policy.optimise(images, chosen, shares, teacher)
    for i in range(N):
        classes = {int(c) for c in teacher(images[chosen[i]]).argmax(1)}
        first = set(found.logits[i].topk(len(classes)).indices.tolist())
        assert bool(found.success[i]) == (first == classes)
        assert found.success[i] or found.steps[i] == 2
    assert 0 < found.success.sum() < N  # or the test would show nothing


def test_two_sources_of_one_class_have_to_show_that_class_alone():
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0]])
    one = torch.tensor([[True, False, False]]).expand(2, 3)
    assert all_first(logits, one).tolist() == [True, False]
    two = torch.tensor([[True, False, True], [True, False, True]])
    assert all_first(logits, two).tolist() == [True, False]


def test_only_mixes_that_have_not_succeeded_go_on(teacher, images):
    sizes = []

    def counting(batch):
        sizes.append(len(batch))
        return teacher(batch)

    policy = SuperMix()
    _, chosen, shares = draws(policy)
    found = policy.optimise(images, chosen, shares, counting)
    expected = [int((found.steps >= step).sum()) for step in range(1, int(found.steps.max()) + 1)]
    assert sizes == [N, N, *expected]  # the sources, the even masks, and one pass a step
    assert expected[-1] < N
    assert found.steps.max() <= 50


def test_a_mix_is_the_same_whatever_else_is_in_the_batch(teacher, images):
    policy = SuperMix()
    _, chosen, shares = draws(policy)
    whole = policy.optimise(images, chosen, shares, teacher)
    assert len(whole.steps.unique()) > 3
    for i in (whole.steps <= 3).nonzero().flatten():  # later, rounding has grown
        alone = policy.optimise(images, chosen[i, None], shares[i, None], teacher)
        assert alone.steps[0] == whole.steps[i]
        assert_close(alone.masks[0], whole.masks[i], atol=1e-4, rtol=1e-3)


def test_dropped_mixes_stay_clean_with_their_own_label(images, targets):
    contrary = torch.zeros(CLASSES)
    contrary[7] = 100.0

    def unmoved(batch):  # sees class 7 first in whatever is mixed, and another class in the sources
        own = F.one_hot(torch.arange(len(batch)) % 6, CLASSES).float() if batch is images else contrary
        return own + 0 * batch.mean((1, 2, 3))[:, None]

    for relabel in (False, True):
        result = mix(SuperMix(max_steps=3, relabel=relabel), images, targets, unmoved)
        assert torch.equal(result.images, images)
        assert torch.equal(result.soft_targets, targets)
        assert torch.equal(result.lam, torch.ones(N))
        assert (result.mask == 1).all()


@pytest.mark.parametrize("sources", [2, 3])
@pytest.mark.parametrize(("n", "size"), [(1, SIZE), (5, SIZE), (5, (33, 17))])
def test_weights_are_those_of_the_pixels(sources, n, size):
    images = torch.arange(n).float().view(n, 1, 1, 1).expand(n, 3, *size).clone()
    before, codes = images.clone(), torch.arange(n).float()
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2 * n))
    result = mix(SuperMix(sources=sources, grid=4), images, torch.eye(n), network)
    assert torch.equal(images, before)
    assert_close(result.weights.sum(1), torch.ones(n))
    assert_close(result.images.mean((1, 2, 3)), result.weights @ codes)
    assert_close(result.soft_targets, result.weights)
    if sources == 2:
        assert_close(result.mask * images + (1 - result.mask) * images[result.index], result.images)
        assert_close(result.mask.mean((1, 2, 3)), result.lam)
    else:
        assert result.mask.shape == (n, n, 4, 4)
        assert_close(result.mask.sum(1), torch.ones(n, 4, 4))
        if size == SIZE:
            assert_close(result.mask.mean((2, 3)), result.weights)


def test_relabelled_mixes_get_the_teachers_prediction(teacher, images, targets):
    result = mix(SuperMix(relabel=True), images, targets, teacher)
    kept = (result.images != images).flatten(1).any(1)
    assert kept.any()
    assert_close(result.soft_targets[kept], teacher(result.images[kept]).softmax(1), atol=1e-4, rtol=1e-3)


def test_the_teacher_stays_as_it_is(teacher, images, targets):
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled):
            result = mix(SuperMix(), images, targets, teacher)
        assert not result.images.requires_grad
        assert not result.soft_targets.requires_grad
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert images.grad is None


def test_shares_follow_the_dirichlet_distribution():
    draw = SuperMix(sources=3).sample(4000, SIZE, torch.Generator().manual_seed(0))
    assert_close(draw.shares.sum(1), torch.ones(4000))
    for k in range(3):  # one share of three is Beta(alpha, 2 alpha)
        assert stats.kstest(draw.shares[:, k].numpy(), stats.beta(3, 6).cdf).pvalue > 0.01
    tiny = SuperMix(alpha=0.001).sample(100, SIZE, torch.Generator().manual_seed(0)).shares
    assert tiny.isfinite().all()


@pytest.mark.parametrize("sources", [2, 3])
def test_what_is_given_is_kept(sources):
    index = torch.tensor([2, 0, 1])
    draw, chosen, shares = draws(SuperMix(sources=sources), 3, lam=0.3, index=index)
    assert torch.equal(draw.index, index)
    assert draw.lam == 0.3
    assert_close(shares[:, 0], torch.full((3,), 0.3))
    assert_close(shares.sum(1), torch.ones(3))
    assert chosen.tolist() == [row[:sources] for row in ([0, 2, 1], [1, 0, 2], [2, 1, 0])]


def test_sources_of_a_mix_are_different_images():
    for seed in range(5):
        _, chosen, _ = draws(SuperMix(sources=4), 7, seed)
        assert all(len(set(row)) == 4 for row in chosen.tolist())


def test_same_generator_same_mix(teacher, images, targets):
    first, second, other = (mix(SuperMix(), images, targets, teacher, seed) for seed in (5, 5, 6))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.soft_targets, second.soft_targets)
    assert not torch.equal(first.images, other.images)


def test_labels_and_masks_stay_float32_under_autocast(teacher, images, targets):
    plain = mix(SuperMix(max_steps=1), images, targets, teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = mix(SuperMix(max_steps=1), images, targets, teacher)
    assert result.images.dtype == result.mask.dtype == result.soft_targets.dtype == torch.float32
    assert_close(result.mask * images + (1 - result.mask) * images[result.index], result.images)
    assert plain.mask.shape == result.mask.shape
    half = mix(SuperMix(), images.bfloat16(), targets, teacher.bfloat16())
    teacher.float()
    assert half.images.dtype == torch.bfloat16
    assert half.mask.dtype == half.soft_targets.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0}, "supermix: alpha has to be positive, not 0"),
        ({"grid": 0}, "supermix: grid has to be positive, not 0"),
        ({"sigma": -1.0}, "supermix: sigma has to be positive, not -1.0"),
        ({"max_steps": 0}, "supermix: max_steps has to be positive, not 0"),
        ({"sources": 1}, "supermix: sources has to be at least 2, not 1"),
        ({"sparsity": -1.0}, "supermix: sparsity must not be negative, it is -1.0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SuperMix(**settings)


def test_a_context_without_a_teacher_is_refused(images, targets):
    with pytest.raises(ValueError, match="supermix: the context has no teacher"):
        SuperMix()(images, targets, MixContext(features=lambda batch: batch))
