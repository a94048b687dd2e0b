"""Any tree of image folders."""

import shutil

import pytest
from prepare_layouts import colour, picture

from pretrain.console import UserError
from pretrain.data.card import DataCard, read_data_card
from pretrain.data.prepare.folder import prepare

CLASSES = ["cat", "dog"]


@pytest.fixture
def flat(tmp_path):
    """ROOT/<class>/ with ten images each."""
    for label, name in enumerate(CLASSES):
        (tmp_path / "flat" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / "flat" / name / f"{number}.png").write_bytes(picture(colour(label, "train", number)))
    return tmp_path / "flat"


@pytest.fixture
def tree(flat, tmp_path):
    """ROOT/{train,val}/<class>/ with seven and three images each."""
    for name in CLASSES:
        for number in range(10):
            target = tmp_path / "tree" / ("train" if number < 7 else "val") / name
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(flat / name / f"{number}.png", target)
    return tmp_path / "tree"


def as_it_is(root):
    return prepare(root, None, None, None, 1.0, 0)


def test_a_tree_gets_a_card(tree):
    card, data_set, state = as_it_is(tree)
    assert card == DataCard("tree", CLASSES, {"train": 14, "val": 6}, 1.0, 0, {"tree": "not checked, unpacked before"})
    assert (read_data_card(tree), data_set.key, state) == (card, "tree", "whole")
    assert as_it_is(tree)[0] == card
    (tree / "train/cat/0.png").unlink()
    with pytest.raises(UserError, match="half-extracted: 13 images under train/, the card says 14"):
        as_it_is(tree)


def test_a_flat_folder_is_split(flat, tmp_path, seen):
    card, _, state = prepare(flat, tmp_path / "out", "Pets", 0.2, 1.0, 3)
    assert (card.name, card.classes, card.images, state) == ("Pets", CLASSES, {"train": 16, "val": 4}, "arranged")
    found = seen(tmp_path / "out")
    for label, name in enumerate(CLASSES):
        files = {place[2]: pixels for place, pixels in found.items() if place[1] == name}
        assert files == {f"{number}.png": colour(label, "train", number) for number in range(10)}
        assert sum(place[:2] == ("val", name) for place in found) == 2
    assert prepare(flat, tmp_path / "out", "Pets", 0.2, 1.0, 3)[2] == "complete already"
    with pytest.raises(UserError, match=r"something else \(images are .*'val': 4\} there and .*'val': 6\} here\)"):
        prepare(flat, tmp_path / "out", "Pets", 0.3, 1.0, 3)
    prepare(flat, tmp_path / "other", "Pets", 0.2, 1.0, 4)
    assert seen(tmp_path / "other").keys() != found.keys()
    assert (tmp_path / "out/train/cat").exists()
    assert len(list(flat.glob("*/*"))) == 20  # it stays as it was


def test_a_tree_is_made_smaller(tree, tmp_path, seen):
    card, data_set, _ = prepare(tree, tmp_path / "out", None, None, 0.5, 0)
    assert (card.name, card.images, card.fraction) == ("out", {"train": 8, "val": 4}, 0.5)
    found = seen(tmp_path / "out")
    assert found.items() <= seen(tree).items()
    assert data_set.images == {"train": 14, "val": 6}


def test_a_class_may_be_called_val(flat, tmp_path):
    (flat / "dog").rename(flat / "val")
    card, _, _ = prepare(flat, tmp_path / "out", None, 0.1, 1.0, 0)
    assert (card.classes, card.images) == (["cat", "val"], {"train": 18, "val": 2})


@pytest.mark.parametrize(("share", "val"), [(0.01, 1), (0.5, 5), (0.99, 9)])
def test_a_split_leaves_an_image_on_each_side(flat, tmp_path, share, val):
    card, _, _ = prepare(flat, tmp_path / "out", None, share, 1.0, 0)
    assert card.images == {"train": 2 * (10 - val), "val": 2 * val}


def test_other_files_are_left_out_and_named(tree, tmp_path, capsys):
    (tree / "train/cat/notes.txt").write_text("a")
    (tree / "val/dog/.DS_Store").write_text("b")
    card, _, _ = prepare(tree, tmp_path / "out", None, None, 1.0, 0)
    assert card.images == {"train": 14, "val": 6}
    warnings = capsys.readouterr().err
    assert "tree/train: 1 entries are no images and are left out: notes.txt" in warnings
    assert "tree/val: 1 entries are no images and are left out: .DS_Store" in warnings


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda root: None, (None, None, 0.1, 1.0, 0), "need --out DIR: the tree itself stays as it is"),
        (lambda root: None, (None, None, None, 0.5, 0), "need --out DIR"),
        (lambda root: None, ("out", None, 0.1, 1.0, 0), "train/ and val/ are there already; leave out --val-share"),
        (lambda root: None, ("out", None, None, 1.5, 0), r"--fraction is 1\.5"),
        (lambda root: shutil.rmtree(root / "val"), ("out", None, None, 1.0, 0), "give --val-share 0.1 to split"),
        (lambda root: shutil.rmtree(root / "val"), ("out", None, 1.0, 1.0, 0), r"--val-share is 1\.0"),
        (lambda root: shutil.rmtree(root / "val"), ("out", None, 0.1, 1.0, 0), r"give --extracted .*tree/train"),
        (lambda root: shutil.rmtree(root / "val/cat"), ("out", None, None, 1.0, 0), "not in both train/ and val/: cat"),
        (lambda root: (root / "val/emu").mkdir(), ("out", None, None, 1.0, 0), "1 folders without an image: emu"),
        (lambda root: (root / "val/cat/a.jpg").touch(), ("out", None, None, 1.0, 0), r"1 files are empty: cat/a\.jpg"),
        (shutil.rmtree, ("out", None, None, 1.0, 0), "no such folder"),
    ],
)
def test_what_cannot_be_prepared_is_refused(tree, tmp_path, change, arguments, message):
    change(tree)
    out, *rest = arguments
    with pytest.raises(UserError, match=message):
        prepare(tree, out and tmp_path / out, *rest)
    assert not (tmp_path / "out").exists()
    assert not (tree / "dataset.json").exists()


def test_a_class_of_one_image_cannot_be_split(flat, tmp_path):
    for number in range(9):
        (flat / "dog" / f"{number}.png").unlink()
    with pytest.raises(UserError, match="1 classes have one image, and a split needs two: dog"):
        prepare(flat, tmp_path / "out", None, 0.1, 1.0, 0)
