"""Every data set of the paper, end to end, from archives of the real layout."""

import io
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepare_layouts import CLASSES, LAYOUTS, REAL, TRAIN, VAL, WNIDS, picture

from pretrain.archives.sources import UNPACKED, find
from pretrain.console import UserError
from pretrain.data.card import read_data_card
from pretrain.data.prepare.cifar import encode_png

COUNTS = {  # of the publishers' own pages
    "cifar10": (50_000, 10_000, 10),
    "cifar100": (50_000, 10_000, 100),
    "tiny": (100_000, 10_000, 200),
    "imagenet": (1_281_167, 50_000, 1000),
    "cub200": (5_994, 5_794, 200),
    "aircraft": (6_667, 3_333, 100),
    "inat2017": (579_184, 95_986, 5089),
    "inat2018": (437_513, 24_426, 8142),
    "places205": (2_448_873, 20_500, 205),
}


def test_the_tools_ask_for_the_published_numbers():
    found = {key: (each.images["train"], each.images["val"], each.classes) for key, each in REAL.items()}
    assert found == COUNTS


def test_every_data_set_names_a_config_that_is_there():
    root = Path(__file__).parents[4]
    assert [each.config for each in REAL.values() if not (root / each.config).is_file()] == []


def test_the_documentation_has_the_same_numbers():
    text = (Path(__file__).parents[4] / "docs/data.md").read_text()
    for key, (train, val, classes) in COUNTS.items():
        row = f"| {REAL[key].name} | {train:,} / {val:,} | {classes:,} |"
        assert row in text
        assert f"`{REAL[key].command}` |" in text[text.index(row) :].partition("\n")[0]


def unpack(built, folder):
    """Unpack the archives as people do: into one folder, ImageNet's classes and images into train/ and val/."""
    for archive in built.data_set.archives:
        path = built.folder / archive.name
        target = folder / archive.role if archive.role in ("train", "val") else folder
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as file:
                file.extractall(target)
        else:
            with tarfile.open(path) as file:
                file.extractall(target, filter="data")
    for inner in (folder / "train").glob("*.tar"):
        with tarfile.open(inner) as file:
            file.extractall(inner.with_suffix(""), filter="data")
        inner.unlink()


def test_all_images_arrive_under_their_class(built, arranged, seen, tmp_path):
    card = arranged(built, tmp_path / "out")
    assert seen(tmp_path / "out") == built.truth
    assert read_data_card(tmp_path / "out") == card
    assert (card.name, card.fraction, card.seed) == (built.data_set.name, 1.0, 0)
    assert card.classes == sorted({label for _, label, _ in built.truth})
    assert card.images == {"train": CLASSES * TRAIN, "val": CLASSES * VAL}
    assert card.source == {archive.name: archive.checksum for archive in built.data_set.archives}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["dataset.json", "train", "val"]
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


@pytest.mark.parametrize("key", [key for key in LAYOUTS if not key.startswith("cifar")])
def test_images_keep_their_bytes(make, arranged, tmp_path, key):
    built = make(key)
    arranged(built, tmp_path / "out")
    (place, colours), *_ = built.truth.items()
    assert (tmp_path / "out").joinpath(*place).read_bytes() == picture(colours)


def test_unpacked_archives_are_linked(built, arranged, seen, tmp_path):
    unpack(built, tmp_path / "unpacked")
    shutil.rmtree(built.folder)
    card = arranged(built, tmp_path / "out", unpacked=tmp_path / "unpacked")
    assert seen(tmp_path / "out") == built.truth
    assert set(card.source.values()) == {UNPACKED}
    if not built.data_set.key.startswith("cifar"):
        inodes = {path.stat().st_ino for path in (tmp_path / "unpacked").rglob("*")}
        assert all(path.stat().st_ino in inodes for path in (tmp_path / "out").glob("*/*/*"))


def test_a_fraction_takes_its_share_of_every_class(built, arranged, seen, tmp_path):
    card = arranged(built, tmp_path / "half", fraction=0.5, seed=3)
    half = seen(tmp_path / "half")
    assert half.items() <= built.truth.items()
    for label in card.classes:
        assert [sum(place[:2] == (split, label) for place in half) for split in ("train", "val")] == [2, 1]
    assert card.images == {"train": 6, "val": 3}
    arranged(built, tmp_path / "again", fraction=0.5, seed=3)
    arranged(built, tmp_path / "other", fraction=0.5, seed=4)
    assert seen(tmp_path / "again") == half
    assert seen(tmp_path / "other") != half
    card = arranged(built, tmp_path / "least", fraction=0.01)
    assert card.images == {"train": CLASSES, "val": CLASSES}  # at least one of each class


def test_a_fraction_still_needs_the_whole_source(built, arranged, tmp_path):
    built.data_set = replace(built.data_set, images={"train": 14, "val": 6})
    with pytest.raises(UserError, match=r"12 training images in the source, 2 too few: there should be 14"):
        arranged(built, tmp_path / "out", fraction=0.5)
    assert not (tmp_path / "out").exists()
    if built.data_set.key != "imagenet":  # its classes are counted as they come
        assert not list((tmp_path / "out.partial").glob("*/*"))


def test_another_number_of_classes_is_refused(built, arranged, tmp_path):
    built.data_set = replace(built.data_set, classes=5)
    with pytest.raises(UserError, match="3 classes in the source, and there should be 5"):
        arranged(built, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_imagenet_can_lie_in_folders_of_classes_without_the_devkit(make, arranged, seen, tmp_path):
    built = make("imagenet")
    arranged(built, tmp_path / "first")
    shutil.rmtree(built.folder)
    (tmp_path / "first/dataset.json").unlink()
    (tmp_path / "first/train" / WNIDS[0] / "readme.txt").write_text("no image")
    arranged(built, tmp_path / "out", unpacked=tmp_path / "first")
    assert seen(tmp_path / "out") == built.truth


def test_the_devkit_is_asked_for_where_the_validation_images_lie_flat(make, tmp_path):
    built = make("imagenet")
    unpack(built, tmp_path / "unpacked")
    shutil.rmtree(tmp_path / "unpacked/ILSVRC2012_devkit_t12")
    found, missing = find(built.data_set.archives, tmp_path / "nothing", tmp_path / "unpacked")
    assert sorted(found) == ["train", "val"]
    assert [archive.role for archive in missing] == ["devkit"]


def test_original_images_of_places_lie_below_other_folders(make, arranged, seen, tmp_path):
    built = make("places205", top="data/somewhere/else")
    (built.folder / "imagesPlaces205_resize.tar.gz").rename(built.folder / "imagesPlaces205.tar.gz")
    arranged(built, tmp_path / "out")
    assert seen(tmp_path / "out") == built.truth


def test_cifar_stores_planes_and_rows():
    """Its page: 1024 bytes of red, then green, then blue; the first 32 of each are the first row."""
    pixels = np.arange(3 * 2 * 5, dtype=np.uint8).reshape(3, 2, 5)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert image.size == (5, 2)
        assert image.getpixel((4, 0)) == (4, 14, 24)
        assert image.getpixel((0, 1)) == (5, 15, 25)


def test_every_layout_is_tested():
    assert LAYOUTS.keys() == REAL.keys()
