"""The layouts of wsolevaluation, by a few lines of its own files, and where each keeps its images."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pretrain.console import UserError
from wsol.metadata import boxes_digest, find_image, read_metadata, read_split
from wsol.metadata.val import read_splits

# The first lines, or some of them, of metadata/ILSVRC/test, ILSVRC/val and OpenImages/val.
ILSVRC_TEST = {
    "image_ids": ["val/ILSVRC2012_val_00000001.JPEG", "val/ILSVRC2012_val_00000002.JPEG"],
    "class_labels": ["val/ILSVRC2012_val_00000001.JPEG,65", "val/ILSVRC2012_val_00000002.JPEG,970"],
    "image_sizes": ["val/ILSVRC2012_val_00000001.JPEG,500,375", "val/ILSVRC2012_val_00000002.JPEG,500,375"],
    "localization": [
        "val/ILSVRC2012_val_00000001.JPEG,111,108,441,193",
        "val/ILSVRC2012_val_00000002.JPEG,45,49,499,162",
        "val/ILSVRC2012_val_00000002.JPEG,2,69,437,207",
    ],
}
ONE, TWO = "val/0138tl/d6fc94e452045cd7", "val/01226z/32fdab44f6e415f1"
OPEN_IMAGES = {
    "image_ids": [f"{TWO}.jpg", f"{ONE}.jpg"],
    "class_labels": [f"{TWO}.jpg,0", f"{ONE}.jpg,1"],
    "localization": [
        f"{TWO}.jpg,{TWO}_m01226z_7dab3053.png,{TWO}_ignore.png",
        f"{ONE}.jpg,{ONE}_m0138tl_685f8420.png,{ONE}_ignore.png",
        f"{ONE}.jpg,{ONE}_m0138tl_5e9f8cb2.png,",
    ],
}


def write(folder: Path, files: dict[str, list[str]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text("\n".join(lines))
    return folder


def test_ilsvrc_has_several_boxes_an_image(tmp_path: Path) -> None:
    one, two = read_metadata(write(tmp_path / "test", ILSVRC_TEST))
    assert (one.label, one.size, one.boxes.tolist()) == (65, (500, 375), [[111, 108, 441, 193]])
    assert (two.label, two.boxes.tolist()) == (970, [[45, 49, 499, 162], [2, 69, 437, 207]])
    assert one.masks == ()


def test_open_images_has_masks_and_no_sizes(tmp_path: Path) -> None:
    two, one = read_metadata(write(tmp_path / "val", OPEN_IMAGES))
    assert one.masks == (f"{ONE}_m0138tl_685f8420.png", f"{ONE}_m0138tl_5e9f8cb2.png")
    assert (one.ignore, two.ignore) == (f"{ONE}_ignore.png", f"{TWO}_ignore.png")
    assert (one.size, one.boxes.shape, one.boxes_at(224, 224).shape) == ((0, 0), (0, 4), (0, 4))
    assert read_split(None, tmp_path, "val")[0][0].masks == two.masks


def test_the_digest_of_a_set_with_masks_is_that_of_no_box(tmp_path: Path) -> None:
    records = read_metadata(write(tmp_path / "val", OPEN_IMAGES))
    # The SHA-256 of nothing.
    assert boxes_digest(records, 224) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_masks_need_no_threshold_and_no_val(tmp_path: Path) -> None:
    for split in ("test", "val"):
        write(tmp_path / split, OPEN_IMAGES)
    found = read_splits(None, tmp_path, "test", "auto")
    assert (found.masks, found.val, found.why_no_val) == (True, None, "PxAP needs no threshold")


def test_val_is_found_in_the_data_folder_too(tmp_path: Path) -> None:
    write(tmp_path / "metadata" / "test", ILSVRC_TEST)
    later = {name: [line.replace("_0000000", "_0000001") for line in lines] for name, lines in ILSVRC_TEST.items()}
    write(tmp_path / "metadata" / "val", later)
    found = read_splits(tmp_path, None, "test", "auto")
    assert found.val is not None
    assert [record.image_id for record in found.val] == later["image_ids"]
    assert [record.image_id for record in found.records] == ILSVRC_TEST["image_ids"]


@pytest.mark.parametrize(("again", "kept"), [("", "x.png"), ("x.png", "x.png")])
def test_an_ignore_file_may_stand_on_one_line_or_on_all(tmp_path: Path, again: str, kept: str) -> None:
    lines = [f"{TWO}.jpg,a.png,", f"{ONE}.jpg,b.png,x.png", f"{ONE}.jpg,c.png,{again}"]
    two, one = read_metadata(write(tmp_path, {**OPEN_IMAGES, "localization": lines}))
    assert (two.masks, two.ignore) == (("a.png",), "")
    assert (one.masks, one.ignore) == (("b.png", "c.png"), kept)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{ONE}.jpg,c.png,y.png", "has the ignore file y.png here and x.png before"),
        (f"{ONE}.jpg,c.png", "3 fields are due"),
        (f"{ONE}.jpg,,x.png", "3 fields are due"),
        (f"{ONE}.jpg,1,2,3,4", r"'.*\.jpg,1,2' is not in image_ids\.txt"),
        ("other.jpg,c.png,", r"'other\.jpg' is not in image_ids\.txt"),
    ],
)
def test_a_wrong_line_of_masks_is_named(tmp_path: Path, line: str, words: str) -> None:
    lines = [f"{TWO}.jpg,a.png,", f"{ONE}.jpg,b.png,x.png", line]
    folder = write(tmp_path, {**OPEN_IMAGES, "localization": lines})
    with pytest.raises(UserError, match=words) as caught:
        read_metadata(folder)
    assert str(caught.value).startswith(f"{folder / 'localization.txt'}, line 3: ")


@pytest.mark.parametrize(
    ("fields", "words"),
    [("111,108,x,193", "numbers from 0"), ("111,108,441,x", "numbers from 0"), ("111,108,441,", "5 fields")],
)
def test_a_wrong_box_in_the_first_line_is_no_mask(tmp_path: Path, fields: str, words: str) -> None:
    files = {**ILSVRC_TEST, "localization": [f"val/ILSVRC2012_val_00000001.JPEG,{fields}"]}
    with pytest.raises(UserError, match=rf"line 1: {words} .*val/ILSVRC2012_val_00000001\.JPEG"):
        read_metadata(write(tmp_path, files))


def test_sizes_of_a_set_with_masks_are_read_where_they_are(tmp_path: Path) -> None:
    sizes = [f"{TWO}.jpg,1024,683", f"{ONE}.jpg,640,480"]
    assert read_metadata(write(tmp_path, {**OPEN_IMAGES, "image_sizes": sizes}))[1].size == (640, 480)


def test_a_training_split_without_boxes_cannot_be_evaluated(tmp_path: Path) -> None:
    folder = write(tmp_path / "train", {name: OPEN_IMAGES[name] for name in ("image_ids", "class_labels")})
    with pytest.raises(UserError, match=r"train: no localization\.txt"):
        read_metadata(folder)


@pytest.mark.parametrize(
    ("place", "image_id"),
    [
        ("images/001.a/x.jpg", "001.a/x.jpg"),  # CUB_200_2011
        ("001.a/x.jpg", "001.a/x.jpg"),  # wsolevaluation's dataset/CUB
        ("train/001.a/x.jpg", "001.a/x.jpg"),  # arranged by tools/prepare_cub.py
        ("val/001.a/x.jpg", "001.a/x.jpg"),
        ("cubv2/001.a/x.jpg", "001.a/x.jpg"),
        ("val/x.JPEG", "val/x.JPEG"),  # wsolevaluation's dataset/ILSVRC
        ("val/n01440764/x.JPEG", "val/x.JPEG"),  # arranged by tools/prepare_imagenet.py
        ("val2/0/x.jpeg", "val2/0/x.jpeg"),
        ("val/n01440764/x.JPEG", "n01440764/x.JPEG"),
    ],
)
def test_images_are_found_where_each_layout_keeps_them(tmp_path: Path, place: str, image_id: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True)
    Image.new("RGB", (3, 2)).save(path, "PNG")
    assert find_image(tmp_path, image_id) == path
    for other in ("001.a/y.jpg", "val/y.JPEG", "val2/x.jpeg"):
        with pytest.raises(UserError, match=rf"{other}: no such image; is {tmp_path} the right data folder"):
            find_image(tmp_path, other)
