"""Images that cannot be read, and trees that are not what their card says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from pretrain.console import UserError
from pretrain.data.card import DataCard, write_data_card
from pretrain.data.datasets import FolderImages, SeededImageFolder, open_image_folder, read_image
from pretrain.data.loaders import EpochSampler, build_loader, start

COUNT = 6  # of each class


@pytest.fixture
def tree(tmp_path) -> Path:
    """Two classes of pictures, each of one colour: (100 label + number) in every channel."""
    for split in ("train", "val"):
        for label, name in enumerate("ab"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(COUNT):
                level = 100 * label + number
                Image.new("RGB", (16, 16), (level,) * 3).save(tmp_path / split / name / f"{number}.png")
    return tmp_path


def damage(path: Path, how: str) -> None:
    if how == "truncated":
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path, "JPEG")
        path.write_bytes(path.read_bytes()[:-600])
    else:
        path.write_bytes({"text": b"no picture", "empty": b"", "ppm": b"P6 8 8 99999999\n" + bytes(192)}[how])


def opened(tree: Path, seed: int = 0) -> tuple[SeededImageFolder, SeededImageFolder]:
    return open_image_folder(tree, pil_to_tensor, pil_to_tensor, seed, "make it")


@pytest.mark.parametrize("how", ["truncated", "text", "empty", "ppm"])
def test_an_unreadable_image_is_replaced_by_one_that_seed_epoch_and_index_decide(tree, how):
    damage(tree / "train/a/2.png", how)
    train_set, _ = opened(tree)
    replacements = {}
    for epoch in range(20):
        image, label = train_set[epoch, 2]
        level = int(image.unique())
        assert (level // 100, level != 2) == (label, True)  # its own label, not that of the image it stands for
        assert torch.equal(opened(tree)[0][epoch, 2][0], image)
        replacements[epoch] = level
    assert len(set(replacements.values())) > 5
    assert [int(opened(tree, seed=1)[0][epoch, 2][0].unique()) for epoch in range(20)] != list(replacements.values())
    assert train_set.unreadable.nonzero().flatten().tolist() == [2]
    assert train_set.path(2) == str(tree / "train/a/2.png")


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_replace_alike_and_what_they_meet_is_counted_here(tree, workers):
    for name in ("a/1", "b/5"):
        damage(tree / "train" / f"{name}.png", "text")
    train_set, _ = opened(tree)
    loader = build_loader(train_set, EpochSampler(len(train_set), 4, shuffle=True, seed=7), workers, False)
    found = [(images[:, 0, 0, 0].tolist(), labels.tolist()) for images, labels in start(loader)]
    again = opened(tree)[0]
    order = list(EpochSampler(len(train_set), 4, shuffle=True, seed=7))
    expected = [again[position] for position in order]
    assert [level for levels, _ in found for level in levels] == [int(image[0, 0, 0]) for image, _ in expected]
    assert [label for _, labels in found for label in labels] == [label for _, label in expected]
    assert train_set.unreadable.nonzero().flatten().tolist() == [1, COUNT + 5]


def test_a_set_without_a_readable_image_is_one_line(tree):
    for path in (tree / "train").glob("*/*.png"):
        damage(path, "text")
    with pytest.raises(UserError, match="nor can 10 others before it; check the data set") as caught:
        opened(tree)[0][0, 0]
    assert "\n" not in str(caught.value)


def test_an_unreadable_validation_image_is_an_error_that_names_it(tree):
    damage(tree / "val/b/3.png", "truncated")
    _, val_set = opened(tree)
    with pytest.raises(UserError, match=re.escape(f"{tree}/val/b/3.png: cannot be read as an image (")):
        val_set[0, COUNT + 3]


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "LA", "1", "CMYK", "I;16"])
def test_every_mode_is_read_as_pillow_converts_it(tmp_path, mode):
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.fromarray(noise).convert("L" if mode == "I;16" else mode).convert(mode).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
        expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(read_image(path)), expected)


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        ("half", "half-extracted: 11 images under train/, the card says 12; run again: make it"),
        ("more", "13 images under val/, and the card says 12"),
        ("missing class", "1 class folders of dataset.json are not there: b; run again: make it"),
        ("class more", "1 class folders are not in dataset.json: c"),
        ("empty class", "Found no valid file for the classes b; prepare the data set again"),
        ("no index", "train: shards without index.safetensors, unfinished; run tools/shard_dataset.py again"),
    ],
)
def test_a_tree_that_is_not_what_it_should_be_is_one_line(tree, spoil, problem):
    write_data_card(tree, DataCard("two", ["a", "b"], {"train": 2 * COUNT, "val": 2 * COUNT}))
    assert [len(part) for part in opened(tree)] == [12, 12]
    if spoil == "half":
        (tree / "train/b/5.png").unlink()
    elif spoil == "more":
        (tree / "val/a/x.png").write_bytes((tree / "val/a/0.png").read_bytes())
    elif spoil in ("missing class", "empty class"):
        for split in ("train", "val"):
            for path in (tree / split / "b").iterdir():
                path.unlink()
            if spoil == "missing class":
                (tree / split / "b").rmdir()
    elif spoil == "class more":
        for split in ("train", "val"):
            (tree / split / "b").rename(tree / split / "moved")
            (tree / split / "moved").rename(tree / split / "c")
            (tree / split / "b").mkdir()
            (tree / split / "b/0.png").write_bytes((tree / split / "c/0.png").read_bytes())
    else:
        (tree / "train/train-000000.tar").touch()
    with pytest.raises(UserError) as caught:
        opened(tree)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_hidden_is_no_class_and_no_image(tree):
    """As the prepare tools count: else a folder that a notebook leaves behind would stop a run."""
    plain = FolderImages(tree / "train")
    (tree / "train/.ipynb_checkpoints").mkdir()
    (tree / "train/.ipynb_checkpoints/x.jpg").touch()
    path, _ = plain.samples[0]
    Path(path).with_name("._x.jpg").touch()
    again = FolderImages(tree / "train")
    assert (again.classes, again.samples) == (plain.classes, plain.samples)
