"""A set with soft labels: read alone, joined with the clean images, and refused where something is missing."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from pretrain.console import UserError
from pretrain.data.datasets import SeededImageFolder
from pretrain.data.loaders import EpochSampler
from pretrain.data.soft_labels import JoinedImages, SoftLabelledImages, image_path, write_card, write_labels

CLASSES = ["ant", "bee", "cat"]
TRANSFORM = v2.Compose([v2.PILToTensor(), v2.RandomCrop(8)])


@pytest.fixture
def soft_set(tmp_path):
    """Four images of 12 x 10 pixels whose label is their row number, so to say."""
    rng = np.random.default_rng(0)
    for index in range(4):
        path = image_path(tmp_path / "soft", index)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (12, 10, 3), dtype=np.uint8)).save(path)
    labels = torch.tensor([[1, 0, 0], [0.5, 0.5, 0], [0, 0.25, 0.75], [0.1, 0.2, 0.7]])
    write_labels(tmp_path / "soft" / "soft_labels.safetensors", labels)
    write_card(tmp_path / "soft", CLASSES, 4, seed=3)
    return tmp_path / "soft", labels


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    for name in CLASSES:
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 255, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "train" / name / f"{number}.png")
    return SeededImageFolder(tmp_path / "train", TRANSFORM)


def test_images_come_with_their_row_of_the_labels(soft_set):
    root, labels = soft_set
    whole = SoftLabelledImages(root, v2.PILToTensor())
    assert len(whole) == 4
    assert whole.classes == CLASSES
    for index in range(4):
        image, target = whole[0, index]
        assert image.dtype == torch.uint8
        pixels = np.asarray(Image.open(root / "images" / f"0000000{index}.png"))
        assert (image.permute(1, 2, 0).numpy() == pixels).all()
        assert target.dtype == torch.float32
        assert torch.equal(target, labels[index])


def test_augmentation_depends_on_seed_epoch_and_index_alone(soft_set):
    root, _ = soft_set
    first, again, other = (SoftLabelledImages(root, TRANSFORM, seed) for seed in (0, 0, 1))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    looks = [first[epoch, 2][0] for epoch in range(6)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(7)
    assert all(torch.equal(look, again[epoch, 2][0]) for epoch, look in enumerate(looks))
    assert any(not torch.equal(look, other[epoch, 2][0]) for epoch, look in enumerate(looks))
    assert any(not torch.equal(look, looks[0]) for look in looks)


def test_a_joined_set_collates_to_float_rows(soft_set, folder):
    root, labels = soft_set
    joined = JoinedImages(folder, SoftLabelledImages(root, TRANSFORM))
    assert len(joined) == 6 + 4
    assert joined.classes == CLASSES
    sampler = EpochSampler(len(joined), 5, shuffle=True)
    positions = list(sampler)
    batches = list(DataLoader(joined, batch_size=5, sampler=sampler))
    images, targets = (torch.cat(parts) for parts in zip(*batches))
    assert images.shape == (10, 3, 8, 8)
    assert images.dtype == torch.uint8
    assert {joined[0, index][1].dtype for index in range(10)} == {torch.float32}
    clean = torch.eye(3).repeat_interleave(2, dim=0)
    assert torch.equal(targets, torch.cat([clean, labels])[[index for _, index in positions]])
    assert_close(torch.nn.CrossEntropyLoss()(torch.zeros(10, 3), targets), torch.tensor(3.0).log())
    for (epoch, index), image in zip(positions, images):
        if index < 6:
            assert torch.equal(image, folder[epoch, index][0])


def test_clean_and_mixed_images_of_one_index_are_augmented_apart(soft_set, folder):
    root, _ = soft_set

    def offsets(image):
        return torch.randint(1 << 30, (1,))

    clean, soft = SeededImageFolder(folder.folder.root, offsets), SoftLabelledImages(root, offsets)
    assert all(clean[epoch, index][0] != soft[epoch, index][0] for epoch in range(3) for index in range(4))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["ant", "bee"], "it has 2 classes and the data set 3"),
        (["bee", "ant", "cat"], "class 0 is 'bee' there and 'ant' in the data set"),
    ],
)
def test_other_classes_are_refused(soft_set, folder, classes, message):
    root, labels = soft_set
    write_labels(root / "soft_labels.safetensors", labels[:, : len(classes)])
    write_card(root, classes, 4)
    with pytest.raises(UserError, match=message):
        JoinedImages(folder, SoftLabelledImages(root, TRANSFORM))


def _remove(name):
    return lambda root: (root / name).unlink()


def _change_card(**changes):
    def change(root):
        card = json.loads((root / "set.json").read_text())
        (root / "set.json").write_text(json.dumps({**card, **changes}))

    return change


def _damage(root):
    path = root / "soft_labels.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def _no_labels(root):
    (root / "soft_labels.safetensors").write_bytes(b"nothing")
    write_card(root, CLASSES, 4)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_remove("set.json"), r"set\.json: no such file"),
        (lambda root: (root / "set.json").write_text("[]"), r"set\.json: not the card of a complete set"),
        (_remove("soft_labels.safetensors"), r"soft_labels\.safetensors: no such file"),
        (_damage, r"soft_labels\.safetensors: its SHA-256 is not the one in set\.json"),
        (_no_labels, r"soft_labels\.safetensors: not a file of labels"),
        (_remove("images/00000003.png"), r"there are 3 images and labels \(4, 3\), but set\.json says 4 images"),
        (_change_card(count=5), "says 5 images of 3 classes"),
        (_change_card(classes=["ant"]), "says 4 images of 1 classes"),
    ],
)
def test_what_is_missing_or_damaged_is_named_in_one_line(soft_set, spoil, message):
    root, _ = soft_set
    spoil(root)
    with pytest.raises(UserError, match=message) as caught:
        SoftLabelledImages(root, TRANSFORM)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_and_an_unreadable_image(soft_set, tmp_path):
    root, _ = soft_set
    with pytest.raises(UserError, match=r"nowhere: no such folder; tools/supermix_generate\.py makes"):
        SoftLabelledImages(tmp_path / "nowhere", TRANSFORM)
    (root / "images" / "00000001.png").write_bytes(b"\x89PNG and no more")
    with pytest.raises(UserError, match=r"00000001\.png: cannot be read as an image"):
        SoftLabelledImages(root, TRANSFORM)[0, 1]
