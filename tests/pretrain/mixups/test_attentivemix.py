"""AttentiveMix: which cells are pasted, by feature maps whose order is known, and what their share is."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from coded import coded_batch
from torch.nn import functional as F
from torch.testing import assert_close

from pretrain.mixups.attentivemix import AttentiveMix
from pretrain.mixups.policy import MixContext

N = 4


class Frozen:
    """Feature maps made beforehand; counts how often, and for which size, it is asked."""

    def __init__(self, side=7, channels=5, n=N, dtype=torch.float32):
        self.maps = torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(3)).to(dtype)
        self.sizes = []

    def __call__(self, images):
        assert not torch.is_grad_enabled()
        self.sizes.append(tuple(images.shape[-2:]))
        return self.maps


def mix(policy=None, size=(56, 84), n=N, frozen=None, seed=0):
    frozen = frozen or Frozen(n=n)
    images, targets = coded_batch(n, *size)
    result = (policy or AttentiveMix())(
        images, targets, MixContext(features=frozen), torch.Generator().manual_seed(seed)
    )
    return images, targets, result, frozen


def test_the_six_cells_of_largest_attention_are_pasted_on_the_partner():
    _, _, result, frozen = mix()
    for i in range(N):
        attention = frozen.maps[i].numpy().mean(axis=0).ravel()
        expected = np.zeros(49)
        expected[np.argsort(attention)[-6:]] = 1
        cells = result.mask[i, 0].numpy().reshape(7, 8, 7, 12)
        assert (cells == cells[:, :1, :, :1]).all()
        assert (cells[:, 0, :, 0].ravel() == expected).all()
        partner = int(result.index[i])
        assert torch.equal(
            result.images[i, 0],
            torch.where(result.mask[i, 0] == 1, torch.tensor(float(i)), torch.tensor(float(partner))),
        )


def test_attention_is_the_mean_over_channels_not_the_last_one():
    frozen = Frozen()
    frozen.maps[:] = 0
    frozen.maps[:, -1, 0, 0] = 1  # largest in the last channel
    frozen.maps[:, :-1, 3, 4] = 2  # largest in the mean
    _, _, result, _ = mix(AttentiveMix(cells=1), frozen=frozen)
    assert result.mask[:, 0, ::8, ::12].flatten(1).argmax(1).tolist() == [3 * 7 + 4] * N


@pytest.mark.parametrize("size", [(56, 84), (224, 224), (7, 7)])
def test_lam_is_six_in_forty_nine_where_cells_are_equal(size):
    _, _, result, _ = mix(size=size)
    assert_close(result.lam, torch.full((N,), 6 / 49))


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (9, 64)])
@pytest.mark.parametrize("n", [1, 3, N])
def test_weights_are_those_of_the_pixels_where_cells_are_not_equal(size, n):
    images, _, result, _ = mix(size=size, n=n)
    codes = torch.arange(n).float()
    assert_close(result.images.mean((1, 2, 3)), result.weights @ codes)
    assert_close(result.images.mean((1, 2, 3)), result.soft_targets @ codes)
    assert_close(result.soft_targets.sum(1), torch.ones(n))
    assert torch.equal(images, coded_batch(n, *size)[0])
    if n == N:
        assert len(result.lam.unique()) > 1  # cells differ in size, and every image has its own


@pytest.mark.parametrize("cells", [0, 1, 25, 48, 49])
def test_a_given_lam_is_a_number_of_cells(cells):
    images, targets = coded_batch(N, 56, 84)
    policy, context = AttentiveMix(), MixContext(features=Frozen())
    draw = policy.sample(N, (56, 84), lam=cells / 49, index=torch.tensor([1, 2, 3, 0]))
    result = policy.apply(images, targets, draw, context)
    assert (result.mask[:, 0, ::8, ::12].sum((1, 2)) == cells).all()
    if cells == 49:
        assert torch.equal(result.images, images)
    assert result.index.tolist() == [1, 2, 3, 0]


def test_the_frozen_network_sees_224_pixels_resized_bilinearly():
    images = torch.rand(2, 3, 40, 64, generator=torch.Generator().manual_seed(0))
    seen = []

    def features(resized):
        seen.append(resized)
        return resized

    AttentiveMix().rank(images, MixContext(features=features))
    expected = F.interpolate(images, size=(224, 224), mode="bilinear", align_corners=False)
    assert torch.equal(seen[0], expected)
    ready = torch.rand(1, 3, 224, 224)
    AttentiveMix().rank(ready, MixContext(features=features))
    assert seen[1] is ready


@pytest.mark.parametrize("side", [14, 7])
def test_maps_of_other_sides_are_averaged_to_the_grid(side):
    frozen = Frozen(side=side)
    ranks = AttentiveMix().rank(coded_batch(N, 56, 84)[0], MixContext(features=frozen))
    cells = frozen.maps.mean(1).numpy().reshape(N, 7, side // 7, 7, side // 7).mean(axis=(2, 4)).reshape(N, 49)
    assert ranks.dtype == torch.int64
    assert (ranks.numpy() == (-cells).argsort(axis=1).argsort(axis=1)).all()


def test_ranks_are_handed_in_and_the_network_is_asked_once():
    frozen, policy = Frozen(), AttentiveMix()
    context = MixContext(features=frozen)
    images, targets = coded_batch(N, 56, 84)
    ranks = policy.rank(images, context)
    for seed in range(3):
        draw = policy.sample(N, (56, 84), torch.Generator().manual_seed(seed))
        cached = policy.apply(images, targets, replace(draw, ranks=ranks))
        assert len(frozen.sizes) == 1 + seed
        asked = policy.apply(images, targets, draw, context)
        assert torch.equal(cached.images, asked.images)
        assert torch.equal(cached.lam, asked.lam)


def test_of_equal_cells_the_first_are_taken():
    frozen = Frozen()
    frozen.maps[:] = 1
    _, _, result, _ = mix(frozen=frozen)
    assert result.mask[0, 0, ::8, ::12].flatten().tolist() == [1.0] * 6 + [0.0] * 43


def test_same_generator_same_mix():
    first, second, other = (mix(seed=seed)[2] for seed in (5, 5, 6))
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.index, other.index)


def test_bf16_images_and_features():
    images, targets = coded_batch(N, 56, 84)
    result = AttentiveMix()(images.bfloat16(), targets, MixContext(features=Frozen(dtype=torch.bfloat16)))
    assert result.images.dtype == torch.bfloat16
    assert result.mask.dtype == result.lam.dtype == result.soft_targets.dtype == torch.float32
    assert_close(result.lam, torch.full((N,), 6 / 49))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grid": 0}, "attentivemix: grid has to be positive, not 0"),
        ({"teacher_size": -1}, "attentivemix: teacher_size has to be positive, not -1"),
        ({"cells": 50}, r"attentivemix: cells has to be in 0 \.\. 49 .*, not 50"),
        ({"cells": -1}, r"attentivemix: cells has to be in 0 \.\. 49 .*, not -1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AttentiveMix(**settings)


def test_a_context_without_features_is_refused():
    images, targets = coded_batch(N, 56, 84)
    for context in (None, MixContext()):
        with pytest.raises(ValueError, match="attentivemix: the context has no features"):
            AttentiveMix()(images, targets, context)
    policy = AttentiveMix()
    with pytest.raises(ValueError, match="no features, and the draw holds no ranks"):
        policy.apply(images, targets, policy.sample(N, (56, 84)))
