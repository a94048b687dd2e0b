"""Crops, flips and augmentation against torchvision's and timm's own; what is refused."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import auto_augment_transform, rand_augment_transform
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

from pretrain.console import UserError
from pretrain.data.seeds import derive_seed, seeded_torch
from pretrain.data.transforms import AutoAugment, Normalise, TransformSettings, eval_transform, train_transform
from pretrain.training.settings import load_settings

CONFIG = "configs/pretrain/cifar100/r18_800ep.py"


@pytest.fixture
def picture() -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return coarse.resize((80, 60), Image.Resampling.BICUBIC)


def made(transform, picture: Image.Image, seed: int = 0) -> torch.Tensor:
    with seeded_torch(seed):
        return transform(picture)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_box_cut_before_it_becomes_a_tensor_gives_torchvision_s_bytes(picture, interpolation, mode):
    picture = picture.convert(mode).convert("RGB")
    how = v2.InterpolationMode(interpolation)
    reference = v2.Compose(
        [v2.PILToTensor(), v2.RandomResizedCrop(24, (0.2, 1.0), interpolation=how), v2.RandomHorizontalFlip()]
    )
    ours = train_transform(TransformSettings(size=24, scale=(0.2, 1.0), interpolation=interpolation))
    for seed in range(20):
        assert torch.equal(made(ours, picture, seed), made(reference, picture, seed))


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("size", [(24, 24), (80, 60)])  # as it is, and after a resize
def test_a_padded_crop_gives_torchvision_s_bytes(picture, size, padding):
    picture = picture.resize(size)
    reference = v2.Compose(
        [v2.PILToTensor(), v2.Resize((24, 24)), v2.RandomCrop(24, padding=padding), v2.RandomHorizontalFlip()]
    )
    ours = train_transform(TransformSettings(size=24, train_crop="padded", padding=padding))
    for seed in range(20):
        assert torch.equal(made(ours, picture, seed), made(reference, picture, seed))


@pytest.mark.parametrize("crop", ["resized", "padded"])
def test_interpolation_is_that_of_training_and_of_test_images(picture, crop):
    settings = [TransformSettings(size=24, train_crop=crop, interpolation=name) for name in ("bilinear", "bicubic")]
    for transform in (train_transform, eval_transform):
        one, other = (made(transform(each), picture) for each in settings)
        assert one.shape == other.shape == (3, 24, 24)
        assert not torch.equal(one, other)


def test_test_images_have_a_size_of_their_own(picture):
    settings = TransformSettings(size=24, test_size=40, test_crop_ratio=0.8)
    whole = v2.functional.resize(pil_to_tensor(picture), [50], antialias=True)  # 40 / 0.8: 50 x 67 pixels
    assert torch.equal(eval_transform(settings)(picture), whole[:, 5:45, 13:53])
    assert made(train_transform(settings), picture).shape == (3, 24, 24)


def test_flip_is_a_probability(picture):
    straight, mirrored, even = (
        train_transform(TransformSettings(size=60, train_crop="padded", padding=0, flip=flip)) for flip in (0, 1, 0.5)
    )
    plain = made(straight, picture)
    assert torch.equal(plain, v2.functional.resize(pil_to_tensor(picture), [60, 60], antialias=True))
    assert torch.equal(made(mirrored, picture), plain.flip(-1))
    flipped = sum(torch.equal(made(even, picture, seed), plain.flip(-1)) for seed in range(200))
    assert 70 < flipped < 130  # 100 +- 4 standard deviations


@pytest.mark.parametrize("description", ["rand-m9-mstd0.5-inc1", "rand-m5-n3", "original", "v0", "3a"])
def test_auto_augment_is_timm_s_under_the_same_seeds(picture, description):
    build = rand_augment_transform if description.startswith("rand") else auto_augment_transform
    hints = {
        "translate_const": 36,  # 0.45 * 80
        "img_mean": (124, 116, 104),
        "interpolation": Image.Resampling.BICUBIC,
    }
    reference = build(description, hints)
    ours, image = AutoAugment(description, 80, "bicubic"), pil_to_tensor(picture)
    changed = 0
    for seed in range(40):
        before = random.getstate(), np.random.get_state()[1].tolist()
        found = made(lambda _, tensor=image: ours(tensor), picture, seed)
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before
        with seeded_torch(seed):
            drawn = int(torch.randint(2**63 - 1, ()))
        random.seed(drawn)
        np.random.seed(drawn % 2**32)
        assert torch.equal(found, pil_to_tensor(reference(picture)))
        changed += not torch.equal(found, image)
    assert changed > 20


def test_posterizing_to_no_bits_is_black(picture):
    """RandAugment's level 10, which "mstd" reaches now and then; Pillow 13 refuses it."""
    ours = AutoAugment("rand-m10-inc1-n1-p1", 80, "bilinear")
    ours.augment.ops = [op for op in ours.augment.ops if op.name == "PosterizeIncreasing"]
    assert len(ours.augment.ops) == 1
    ours.augment.choice_weights = None
    assert ours(pil_to_tensor(picture)).sum() == 0


def test_color_jitter_changes_colours_within_its_range():
    grey = Image.new("RGB", (8, 8), (100, 100, 100))  # contrast and saturation leave it; brightness is 0.6 to 1.4
    none, some = (train_transform(TransformSettings(size=8, color_jitter=strength)) for strength in (0, 0.4))
    assert made(none, grey).unique().tolist() == [100]
    levels = [made(some, grey, seed).unique().tolist() for seed in range(60)]
    assert all(len(level) == 1 for level in levels)
    assert 60 <= min(levels)[0] < 70
    assert 130 < max(levels)[0] <= 140


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("auto_augment", "randm9", "auto_augment 'randm9': timm knows descriptions that begin with rand"),
        ("auto_augment", "rand-x9", "auto_augment 'rand-x9': timm cannot read it"),
        ("auto_augment", "autoaugment", "auto_augment 'autoaugment': timm knows descriptions that begin with"),
        ("flip", 1.5, "flip is 1.5; it is a probability, from 0 to 1"),
        ("erasing", -0.1, "erasing is -0.1; it is a probability, from 0 to 1"),
        ("interpolation", "nearest", "interpolation: input should be 'bilinear' or 'bicubic'"),
    ],
)
def test_wrong_words_and_probabilities_are_refused(key, value, problem):
    with pytest.raises(UserError) as caught:
        load_settings(CONFIG, {f"data.transform.{key}": value})
    assert f"data.transform{'.' if key == 'interpolation' else ': '}{problem}" in str(caught.value)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 3, 1, 1), (1, 3, 4, 1)])
def test_normalise_is_the_formula_in_either_layout(layout, shape):
    images = torch.randint(0, 256, shape, dtype=torch.uint8).contiguous(memory_format=layout)
    before, normalise = images.clone(), Normalise()
    found = normalise(images)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(found, (images / 255 - mean) / std)
    assert torch.equal(found, images.float() * normalise.scale - normalise.offset)
    assert torch.equal(images, before)
    assert found.is_contiguous(memory_format=layout)
    kept = images.float()
    normalise(kept)
    assert torch.equal(kept, images.float())  # floats come out as a copy too


def test_seeding_draws_as_torch_does_and_puts_back():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    seed = derive_seed(1, 2, 3)
    with seeded_torch(seed):
        within = torch.randn(5)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(seed)
    assert torch.equal(torch.randn(5), within)
