"""CIFAR-C's files: the right slices, the right means, and one line on whatever is wrong."""

import numpy as np
import pytest
import torch
from torch import nn

from pretrain.console import UserError
from pretrain.evaluation.corruption import CORRUPTIONS, EXTRA, FIFTEEN, corruption_accuracy, open_corruptions

# The file names of Zenodo's records 2535967 and 3555552, in the alphabet's order.
PUBLISHED = [
    *("brightness", "contrast", "defocus_blur", "elastic_transform", "fog", "frost"),
    *("gaussian_blur", "gaussian_noise", "glass_blur", "impulse_noise", "jpeg_compression", "motion_blur"),
    *("pixelate", "saturate", "shot_noise", "snow", "spatter", "speckle_noise", "zoom_blur"),
]
N, K = 4, 3  # images a severity, classes


class FirstPixel(nn.Module):
    """The class is the value of the first pixel's green."""

    def forward(self, images):
        return nn.functional.one_hot(images[:, 1, 0, 0].long(), K).float()


def right_answers(corruption, severity):
    """Return how many of N images a folder's files have right, another number for each file and severity."""
    return (corruption + severity * (corruption % 3)) % (N + 1)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.tile(np.array([0, 2, 1, 2], dtype=np.uint8), 5)
    np.save(tmp_path / "labels.npy", labels)
    for number, name in enumerate(PUBLISHED):
        images = rng.integers(0, 256, (5 * N, 32, 32, 3), dtype=np.uint8)
        for severity in range(5):
            part = slice(N * severity, N * severity + N)
            shown = labels[part].copy()
            shown[right_answers(number, severity) :] = (shown[right_answers(number, severity) :] + 1) % K
            images[part, 0, 0, 1] = shown
        np.save(tmp_path / f"{name}.npy", images)
    return tmp_path


def test_the_names_are_the_published_ones():
    assert sorted(CORRUPTIONS) == PUBLISHED
    assert len(FIFTEEN) == 15
    assert sorted(EXTRA) == ["gaussian_blur", "saturate", "spatter", "speckle_noise"]


@pytest.mark.parametrize("batch_size", [3, 4, 64])  # batches never reach over the border of two severities
def test_accuracy_by_severity_and_its_means(folder, batch_size, capsys):
    opened = open_corruptions(folder, K)
    assert "4 images a severity, and the published set has 10,000" in capsys.readouterr().err
    assert all(isinstance(each, np.memmap) for each in opened.images.values())
    found = corruption_accuracy(FirstPixel(), opened, lambda images: images, batch_size, torch.device("cpu"))
    expected = {
        name: [100 * right_answers(number, severity) / N for severity in range(5)]
        for number, name in enumerate(PUBLISHED)
    }
    assert found["by_corruption"] == expected
    assert found["mean"] == pytest.approx(np.mean([*expected.values()]))
    fifteen = [each for name, each in expected.items() if name not in EXTRA]
    assert found["mean_15_without_the_4_extra_ones"] == pytest.approx(np.mean(fifteen))
    assert found["mean"] != pytest.approx(found["mean_15_without_the_4_extra_ones"])


def test_images_reach_the_network_whole(folder):
    opened = open_corruptions(folder, K)
    seen = []

    def prepare(images):
        seen.append(images)
        return images

    corruption_accuracy(FirstPixel(), opened, prepare, 64, torch.device("cpu"))
    raw = np.load(folder / f"{CORRUPTIONS[0]}.npy")
    assert seen[0].dtype == torch.uint8
    assert np.array_equal(torch.cat(seen[:5]).permute(0, 2, 3, 1).numpy(), raw)


def test_the_published_number_is_not_remarked_on(tmp_path, folder, capsys, monkeypatch):
    monkeypatch.setattr("pretrain.evaluation.corruption.PUBLISHED", N)
    open_corruptions(folder, K)
    assert capsys.readouterr().err == ""


def cut_short(path):
    path.write_bytes(path.read_bytes()[:500])


BAD = {
    "missing": ("fog.npy", lambda path: path.unlink(), r"fog\.npy: no such file; .*3555552.*2535967"),
    "truncated": ("snow.npy", cut_short, r"snow\.npy: not a whole \.npy file"),
    "empty": ("frost.npy", lambda path: path.write_bytes(b""), r"frost\.npy: not a whole \.npy file"),
    "text": ("spatter.npy", lambda path: path.write_text("hello"), r"spatter\.npy: not a whole \.npy file"),
    "float": (
        "zoom_blur.npy",
        lambda path: np.save(path, np.zeros((5 * N, 32, 32, 3))),
        r"zoom_blur\.npy: holds float64 .* where uint8 \(20, 32, 32, 3\) is needed",
    ),
    "short": (
        "pixelate.npy",
        lambda path: np.save(path, np.zeros((4 * N, 32, 32, 3), np.uint8)),
        r"pixelate\.npy: holds uint8 \(16, 32, 32, 3\) where",
    ),
    "no labels": ("labels.npy", lambda path: path.unlink(), r"labels\.npy: no such file; .*3555552"),
    "odd labels": ("labels.npy", lambda path: np.save(path, np.zeros(7, int)), r"labels\.npy: holds int64 \(7,\)"),
    "float labels": ("labels.npy", lambda path: np.save(path, np.zeros(20)), r"labels\.npy: holds float64"),
    "other classes": (
        "labels.npy",
        lambda path: np.save(path, np.arange(20)),
        "classes 0 to 19, and the network knows 3",
    ),
    "fewer classes": ("labels.npy", lambda path: np.save(path, np.arange(20) % 2), "classes 0 to 1, and the network"),
    "negative": ("labels.npy", lambda path: np.save(path, np.arange(20) % 4 - 1), "classes -1 to 2, and the network"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_in_one_line(folder, case):
    name, spoil, message = BAD[case]
    spoil(folder / name)
    with pytest.raises(UserError, match=message) as error:
        open_corruptions(folder, K)
    assert "\n" not in str(error.value)
