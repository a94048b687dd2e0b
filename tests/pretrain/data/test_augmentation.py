"""Augmentation beyond crop and flip: timm's operations under our seeds, sizes, repeats, erasing."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.distributed_sampler import RepeatAugSampler
from torchvision.transforms.v2.functional import pil_to_tensor

from pretrain.console import UserError
from pretrain.data import loaders
from pretrain.data.datasets import SeededImageFolder
from pretrain.data.loaders import EpochSampler
from pretrain.data.transforms import AutoAugment, TransformSettings, eval_transform, posterize, train_transform
from pretrain.training.settings import load_settings


@pytest.fixture
def photograph():
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (60, 90, 3), np.uint8))


def test_randaugment_is_timms(photograph):
    """The same draws of `random` and numpy give the same image; nothing else draws from them."""
    image = pil_to_tensor(photograph)
    hints = {"translate_const": 27, "img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
    timms = rand_augment_transform("rand-m9-mstd0.5-inc1", hints)
    ours = AutoAugment("rand-m9-mstd0.5-inc1", 60, "bicubic")
    changed = 0
    for seed in range(20):
        torch.manual_seed(seed)
        drawn = int(torch.randint(2**63 - 1, ()))
        random.seed(drawn)
        np.random.seed(drawn % 2**32)
        expected = pil_to_tensor(timms(photograph))
        before = random.getstate(), np.random.get_state()[1].tolist()
        torch.manual_seed(seed)
        assert torch.equal(ours(image), expected)
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before
        changed += not torch.equal(expected, image)
    assert changed > 15


@pytest.mark.parametrize("bits", range(9))
def test_posterize_keeps_the_upper_bits(bits):
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    kept = np.asarray(posterize(Image.fromarray(pixels), bits))
    assert np.array_equal(kept, pixels & (0xFF << (8 - bits) & 0xFF))


@pytest.mark.parametrize("description", ["rand-m10-n1-inc1", "v0"])
def test_no_draw_of_the_magnitude_stops_a_run(description):
    """At magnitude 10 the growing series keeps no bit, which Pillow 13 refuses; 9/0.5 gets there now and then."""
    augment, image = AutoAugment(description, 8, "bicubic"), torch.full((3, 8, 8), 200, dtype=torch.uint8)
    torch.manual_seed(0)
    assert all(augment(image).shape == (3, 8, 8) for _ in range(300))


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flip_has_its_probability(photograph, probability):
    settings = TransformSettings(size=60, train_crop="padded", padding=0, flip=probability)
    square = photograph.resize((60, 60))
    expected = pil_to_tensor(square)
    assert torch.equal(train_transform(settings)(square), expected.flip(-1) if probability else expected)


def test_training_and_test_images_have_sides_of_their_own(photograph):
    settings = TransformSettings(size=32, test_size=48, test_crop_ratio=0.8)
    assert train_transform(settings)(photograph).shape == (3, 32, 32)
    tested = eval_transform(settings)(photograph)
    assert tested.shape == (3, 48, 48)
    resized = pil_to_tensor(photograph.resize((90, 60)))  # the short side, 48 / 0.8, is what the photograph has
    assert torch.equal(tested, resized[:, 6:54, 21:69])


def test_interpolation_is_used_in_training_and_in_the_test(photograph):
    for build in (train_transform, eval_transform):
        made = []
        for name in ("bilinear", "bicubic"):
            torch.manual_seed(0)
            made.append(build(TransformSettings(size=40, interpolation=name))(photograph))
        assert not torch.equal(*made)


def test_color_jitter_changes_colours_alone(photograph):
    settings = TransformSettings(size=60, train_crop="padded", padding=0, flip=0.0, color_jitter=0.4)
    square = Image.new("RGB", (60, 60), (200, 100, 50))
    torch.manual_seed(0)
    image = train_transform(settings)(square)
    assert image.flatten(1).unique(dim=1).shape == (3, 1)
    assert image[:, 0, 0].tolist() != [200, 100, 50]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"auto_augment": "rnd-m9"}, "auto_augment 'rnd-m9': timm knows descriptions that begin with rand"),
        ({"auto_augment": "rand-q9"}, "auto_augment 'rand-q9': timm cannot read it; write it like"),
        ({"erasing": 1.5}, "erasing is 1.5; it is a probability"),
        ({"flip": -0.1}, "flip is -0.1; it is a probability"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, settings, message):
    path = tmp_path / "odd.py"
    data = {"root": "x", "transform": settings}
    path.write_text(f"name = 'odd'\nmethod = dict(name='vanilla')\ndata = {data!r}\n")
    with pytest.raises(UserError, match=message):
        load_settings(path)


@pytest.mark.parametrize("world", [1, 2])
def test_repeated_augmentation_has_the_order_of_timms_sampler(monkeypatch, world):
    monkeypatch.setattr(loaders, "derive_seed", lambda seed, epoch: epoch)  # the permutation that timm draws
    for rank in range(world):
        theirs = RepeatAugSampler(range(512), world, rank, num_repeats=3)
        ours = EpochSampler(512, 32, shuffle=True, rank=rank, world_size=world, repeats=3)
        for epoch in (0, 5):
            theirs.set_epoch(epoch)
            ours.start(epoch)
            assert [index for _, index, _ in ours] == list(theirs)
        ours.start(5, step=3)
        assert [index for _, index, _ in ours] == list(theirs)[96:]


def test_repeats_of_an_image_are_augmented_apart(tmp_path, photograph):
    (tmp_path / "a").mkdir()
    photograph.save(tmp_path / "a/0.png")
    images = SeededImageFolder(tmp_path, train_transform(TransformSettings(size=16)))
    repeats = [images[2, 0, repeat][0] for repeat in range(3)]
    assert torch.equal(repeats[0], images[2, 0][0])
    assert not torch.equal(repeats[0], repeats[1])
    assert not torch.equal(repeats[1], repeats[2])
    assert torch.equal(repeats[1], images[2, 0, 1][0])
