"""Images that cannot be read: replaced and counted in training, an error in validation."""

import os

import pytest
import torch
from PIL import Image

from pretrain.console import UserError
from pretrain.data.card import DataCard, write_data_card
from pretrain.data.datasets import open_image_folder
from pretrain.data.loaders import EpochSampler, build_loader
from pretrain.data.transforms import TransformSettings, eval_transform, train_transform
from pretrain.training.devices import launch_fabric
from pretrain.training.inputs import Inputs
from pretrain.training.logbook import read_log
from pretrain.training.loop import train
from pretrain.training.settings import load_settings

TRANSFORM = TransformSettings(size=16)


@pytest.fixture
def root(tmp_path):
    """Twelve training and four validation images of two classes; the pixels tell an image."""
    for split, count in (("train", 6), ("val", 2)):
        for label in range(2):
            folder = tmp_path / "set" / split / str(label)
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (20, 20), (100 * label + 10 * i, 0, 0)).save(folder / f"{i}.jpg", quality=95)
    return tmp_path / "set"


def _open(root):
    return open_image_folder(root, train_transform(TRANSFORM), eval_transform(TRANSFORM), 0, "make it")


def _truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def test_another_image_takes_the_place_of_a_truncated_one(root):
    _truncate(root / "train/0/2.jpg")
    train_set, _ = _open(root)
    image, label = train_set[3, 2]
    assert torch.equal(image, train_set[3, 2][0])  # the same one again
    others = [train_set[3, i] for i in range(12) if i != 2]
    assert any(label == other and abs(int(image.max()) - int(each.max())) < 3 for each, other in others)
    assert train_set.unreadable.nonzero().flatten().tolist() == [2]
    replacing = {int(train_set[epoch, 2][0].max()) for epoch in range(20)}
    assert len(replacing) > 3  # from epoch to epoch another


@pytest.mark.parametrize("workers", [0, 2])
def test_what_workers_could_not_read_is_known_to_all(root, workers):
    for name in ("0/1", "1/4"):
        (root / "train" / f"{name}.jpg").write_bytes(b"no picture")
    train_set, _ = _open(root)
    sampler = EpochSampler(12, 4, shuffle=True)
    assert sum(len(images) for images, _ in build_loader(train_set, sampler, workers, pin_memory=False)) == 12
    found = [train_set.path(index) for index in train_set.unreadable.nonzero().flatten().tolist()]
    assert found == [str(root / "train/0/1.jpg"), str(root / "train/1/4.jpg")]


def test_a_set_that_cannot_be_read_at_all_ends_in_one_line(root):
    for path in root.glob("train/*/*.jpg"):
        path.write_bytes(b"no picture")
    train_set, _ = _open(root)
    with pytest.raises(UserError, match="nor can 10 others before it; check the data set"):
        train_set[0, 0]


def _settings(tmp_path, root, **run):
    path = tmp_path / "config.py"
    data = {"root": str(root), "batch_size": 4, "workers": 0, "transform": {"size": 16}, **run.pop("data", {})}
    path.write_text(
        f"name = 'small'\nmethod = dict(name='vanilla')\nbackbone = dict(name='test_resnet')\ndata = {data!r}\n"
        "optim = dict(lr=0.01, epochs=2)\n"
    )
    return load_settings(path, run)


@pytest.mark.parametrize("workers", [0, 1])
def test_in_validation_it_is_an_error_of_one_line(tmp_path, root, workers):
    _truncate(root / "val/1/0.jpg")
    inputs = Inputs(_settings(tmp_path, root, data={"workers": workers}), launch_fabric("32-true"))
    with pytest.raises(UserError, match=r"val/1/0\.jpg: cannot be read as an image") as caught:
        list(inputs.validation())
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(root))


def test_a_run_lists_them_once(tmp_path, root, capsys):
    _truncate(root / "train/0/2.jpg")
    _truncate(root / "train/1/5.jpg")
    settings = _settings(tmp_path, root)
    train(settings, tmp_path / "run", resume=False, fabric=launch_fabric("32-true"))
    names = [str(root / "train/0/2.jpg"), str(root / "train/1/5.jpg")]
    listed = tmp_path / "run/unreadable_images.txt"
    assert listed.read_text().splitlines() == names
    said = capsys.readouterr().err
    assert said.count("2 training images cannot be read, others took their place: ") == 1
    assert str(listed) in said
    assert [entry["unreadable_images"] for entry in read_log(tmp_path / "run") if "epoch" in entry] == [2, 2]

    listed.write_text("elsewhere.jpg\n" + names[0] + "\n")  # of an earlier sitting
    (tmp_path / "run/state.pth").unlink()
    (tmp_path / "run/state.previous.pth").unlink()
    train(settings, tmp_path / "run", resume=True, fabric=launch_fabric("32-true"))
    assert listed.read_text().splitlines() == ["elsewhere.jpg", *names]
    assert "1 training images cannot be read" in capsys.readouterr().err


def test_a_tree_that_is_not_what_its_card_says_is_not_opened(root):
    write_data_card(root, DataCard("small", ["0", "1"], {"train": 12, "val": 4}))
    assert len(_open(root)[0]) == 12
    (root / "train/1/3.jpg").unlink()
    with pytest.raises(
        UserError, match=r"half-extracted: 11 images under train/, the card says 12; run again: make it"
    ):
        _open(root)


def test_erasing_follows_from_the_step(tmp_path, root):
    plain = Inputs(_settings(tmp_path, root), launch_fabric("32-true"))
    erased = [
        Inputs(_settings(tmp_path, root, data={"transform": {"size": 16, "erasing": p}}), launch_fabric("32-true"))
        for p in (1.0, 1.0, 0.5)
    ]
    batches = [[images for images, _ in inputs.training(0)] for inputs in (plain, *erased)]
    later = [images for images, _ in erased[0].training(1)]  # as after a resume
    for step in range(3):
        clean, first, second, _ = (batch[step] for batch in batches)
        assert torch.equal(first, second)
        assert step == 0 or torch.equal(first, later[step - 1])
        box = (first != clean).all(dim=1)  # noise in every channel
        assert torch.equal(box, (first != clean).any(dim=1))
        assert all(0 < int(each.sum()) <= 16 * 16 / 3 + 16 for each in box)
        values = first.permute(0, 2, 3, 1)[box]
        assert abs(float(values.mean())) < 0.5
        assert 0.7 < float(values.std()) < 1.3
    changed = [bool((a != b).any()) for a, b in zip(torch.cat(batches[0]), torch.cat(batches[3]))]
    assert 0 < sum(changed) < 12
    assert torch.equal(torch.cat([i for i, _ in plain.validation()]), torch.cat([i for i, _ in erased[0].validation()]))
