"""The masks by their shares, the fields beneath them by their spectrum and against those of the published code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from coded import coded_batch
from torch.testing import assert_close

from pretrain import mixups
from pretrain.mixups.fmix import highest, low_frequency_field

CASES = Path(__file__).parents[2] / "cases" / "fmix" / "official.npz"
SIDE = 64


def _mean_power(size, decay, spectrum, draws=400):
    """The power (H, W) at every frequency, averaged over random fields."""
    generator = torch.Generator().manual_seed(0)
    noises = (torch.randn(size, generator=generator, dtype=torch.complex128) for _ in range(draws))
    return sum(torch.fft.fft2(low_frequency_field(noise, decay, spectrum)).abs() ** 2 for noise in noises) / draws


@pytest.mark.parametrize("spectrum", ["intended", "official"])
@pytest.mark.parametrize(("n", "size"), [(5, (24, 40)), (1, (17, 31)), (3, (32, 9)), (4, (64, 64))])
@pytest.mark.parametrize("seed", range(4))
def test_labels_and_pixels(spectrum, n, size, seed):
    images, targets = coded_batch(n, *size)
    before = images.clone()
    policy = mixups.build("fmix", spectrum=spectrum)
    draw = policy.sample(n, size, torch.Generator().manual_seed(seed))
    result = policy.apply(images, targets, draw)
    assert torch.equal(images, before)
    assert (result.mask.mean((1, 2, 3)) - draw.lam).abs().max() <= 1 / (size[0] * size[1])
    assert set(result.mask.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(result.mask[0], result.mask[-1])  # one mask a batch
    assert_close(result.images.mean((1, 2, 3)), result.weights @ torch.arange(n, dtype=torch.float32))
    assert_close(result.soft_targets, result.weights)
    assert_close(result.soft_targets.sum(1), torch.ones(n))
    again = policy(images, targets, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(result.images, again.images)


@pytest.mark.parametrize("lam", [0.0, 1.0])
def test_all_of_one_image(lam):
    images, targets = coded_batch(4, 9, 14)
    policy = mixups.build("fmix")
    draw = policy.sample(4, (9, 14), lam=lam)
    chosen = torch.arange(4) if lam == 1 else draw.index
    result = policy.apply(images, targets, draw)
    assert torch.equal(result.images, images[chosen])
    assert torch.equal(result.soft_targets, targets[chosen])


def test_mask_holds_the_highest_values():
    field = torch.tensor([[3.0, -1.0, 2.0, 2.0], [0.0, 5.0, 2.0, -7.0]])
    assert highest(field, 0.25).tolist() == [[True, False, False, False], [False, True, False, False]]
    assert highest(field, 0.5).sum() == 4  # not five, for all that three values are the same
    assert highest(torch.zeros(3, 5), 0.4).sum() == 6


@pytest.mark.parametrize("decay", [1.0, 3.0])
def test_power_falls_with_the_frequency_by_twice_the_decay(decay):
    # An amplitude of f^-decay is a power of f^(-2 decay): the slope of the radial average, from the floor to Nyquist.
    power = _mean_power((SIDE, SIDE), decay, "intended")
    radius = torch.hypot(torch.fft.fftfreq(SIDE)[:, None], torch.fft.fftfreq(SIDE)) * SIDE
    rings = torch.arange(4, SIDE // 2)
    ring_power = [power[(radius - ring).abs() < 0.5].mean() for ring in rings]
    slope = np.polyfit(rings.log().numpy(), torch.stack(ring_power).log().numpy(), 1)[0]
    assert slope == pytest.approx(-2 * decay, abs=0.05)


def test_frequencies_below_one_wave_an_image_are_as_strong_as_one_wave():
    power = _mean_power((SIDE, SIDE // 4), 3.0, "intended")  # the long side sets the floor
    assert power[0, 0] == pytest.approx(power[1, 0].item(), rel=0.25)
    assert power[2, 0] == pytest.approx(power[1, 0].item() / 2**6, rel=0.25)
    assert power[0, 1] == pytest.approx(power[4, 0].item(), rel=0.25)  # the same frequency in cycles a pixel


def test_intended_spectrum_is_the_same_along_both_axes():
    power = _mean_power((SIDE, SIDE), 3.0, "intended")
    ratio = power[0, 1:] / power[1:, 0]
    assert ratio.log().mean() == pytest.approx(0.0, abs=0.06)  # a half of either would be 0.69
    diagonal = power.diagonal()[1:23] * 2**3  # its frequencies are sqrt(2) times as high
    assert (diagonal / power[0, 1:23]).log().mean() == pytest.approx(0.0, abs=0.06)


def test_official_spectrum_has_one_wave_across_and_many_down():
    power = _mean_power((SIDE, SIDE), 3.0, "official", draws=50)
    assert power[:, 2:-1].max() < 1e-20 * power.max()
    assert power[: SIDE // 2 + 1, :2].min() > 1e-12 * power.max()


@pytest.mark.parametrize("size", ["16x12", "9x15", "15x8", "6x20"])
def test_official_spectrum_is_that_of_the_published_code(size):
    with np.load(CASES) as cases:
        noise, expected = torch.from_numpy(cases[f"{size}.noise"]), torch.from_numpy(cases[f"{size}.field"])
    field = low_frequency_field(torch.view_as_complex(noise), 3.0, "official")
    assert_close((field - field.min()) / (field.max() - field.min()), expected, rtol=0, atol=1e-5)


def test_runs_without_reading_back_from_the_device():
    # A meta tensor has no values to read: whatever made the host wait for a GPU would raise here.
    policy = mixups.build("fmix")
    images, targets = torch.empty(4, 3, 9, 13, device="meta"), torch.empty(4, 7, device="meta")
    assert policy.apply(images, targets, policy.sample(4, (9, 13))).images.shape == (4, 3, 9, 13)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1}, "fmix: alpha has to be positive, not -1"),
        ({"decay": 0}, "fmix: decay has to be positive, not 0"),
        ({"spectrum": "real"}, "fmix: spectrum has to be 'intended' or 'official', not 'real'"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        mixups.build("fmix", **settings)
