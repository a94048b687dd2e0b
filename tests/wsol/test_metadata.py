"""Reading CUB and wsolevaluation's files; every mistake in them names its file and line."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from pretrain.console import UserError
from wsol.metadata import (
    ImageRecord,
    boxes_digest,
    image_size,
    read_classes,
    read_cub,
    read_metadata,
    read_split,
)


def test_cub_and_metadata_tell_the_same(tree, metadata: Path) -> None:
    from_tree, from_metadata = read_cub(tree.root, "test"), read_metadata(metadata)
    assert [record.image_id for record in from_tree] == tree.ids[1::2]
    for one, other in zip(from_tree, from_metadata, strict=True):
        assert (one.image_id, one.label, one.size) == (other.image_id, other.label, other.size)
        np.testing.assert_array_equal(one.boxes, other.boxes)
    assert boxes_digest(from_tree, 224) == boxes_digest(from_metadata, 224)
    assert [record.image_id for record in read_cub(tree.root, "train")] == tree.ids[0::2]


def test_the_digest_is_of_the_resized_boxes_as_little_endian_int64(tree) -> None:
    packed = b""
    for (x, y, w, h), (width, height) in list(zip(tree.boxes.tolist(), tree.sizes))[1::2]:
        corners = (x, width), (y, height), (x + w, width), (y + h, height)
        packed += struct.pack("<4q", *(int(value * 224 / side) for value, side in corners))
    assert boxes_digest(read_cub(tree.root, "test"), 224) == hashlib.sha256(packed).hexdigest()


def test_boxes_are_scaled_and_truncated() -> None:
    # The first image of CUB's metadata: 60, 27, 385, 331 on 500 x 335 pixels.
    record = ImageRecord("a.jpg", 0, (500, 335), np.array([[60, 27, 385, 331]]))
    assert record.boxes_at(224, 224).tolist() == [[26, 18, 172, 221]]


def test_several_boxes_of_an_image(metadata: Path) -> None:
    path = metadata / "localization.txt"
    first = path.read_text().splitlines()[0].split(",")[0]
    path.write_text(path.read_text() + f"\n{first},1,2,3,4\n\n")
    assert read_metadata(metadata)[0].boxes[1].tolist() == [1, 2, 3, 4]
    assert len(read_metadata(metadata)[1].boxes) == 1


def test_a_split_is_found_where_it_lies(tree, metadata: Path) -> None:
    assert read_split(tree.root, None, "test")[1] == "CUB_200_2011"
    assert read_split(tree.root, metadata, "test")[1] == "metadata"
    assert len(read_split(None, metadata.parent, "test")[0]) == 6
    inside = tree.root / "metadata" / "test"
    inside.parent.mkdir()
    metadata.rename(inside)
    assert read_split(tree.root, None, "test")[1] == "metadata"
    with pytest.raises(UserError, match="unknown split 'tset'"):
        read_split(tree.root, None, "tset")
    with pytest.raises(UserError, match="no split 'val'"):
        read_split(tree.root, None, "val")
    with pytest.raises(UserError, match=r"metadata: no split 'val' in it, only test; CUB's comes from CUBV2"):
        read_split(tree.root, inside.parent, "val")
    with pytest.raises(UserError, match="--metadata"):
        read_split(None, None, "test")


def set_line(path: Path, line: int, text: str) -> Path:
    """Put another line, counted from 1, in a CSV file; "{id}" is the image that stands there in image_ids.txt."""
    lines = path.read_text().splitlines()
    lines[line - 1] = text.format(id=(path.parent / "image_ids.txt").read_text().splitlines()[line - 1])
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("name", "line", "text", "words"),
    [
        ("class_labels.txt", 2, "{id}", "2 fields are due"),
        ("class_labels.txt", 2, "{id},one", "numbers from 0"),
        ("class_labels.txt", 2, "{id},1.5", "whole numbers"),
        ("class_labels.txt", 2, "{id},-1", "numbers from 0"),
        ("class_labels.txt", 2, "other.jpg,1", "not in image_ids.txt"),
        ("class_labels.txt", 2, "{first},1", "second time"),
        ("image_ids.txt", 2, "{first}", "second time"),
        ("image_sizes.txt", 3, "{id},100,0", "100 x 0 pixels"),
        ("image_sizes.txt", 3, "{id},100", "fields are due"),
        ("image_sizes.txt", 3, "{id},nan,100", "numbers from 0"),
        ("localization.txt", 4, "{id},5,5,4,9", "x0 <= x1"),
        ("localization.txt", 4, "{id},5,-5,9,9", "numbers from 0"),
        ("localization.txt", 4, "{id},mask.png,ignore.png", "5 fields are due"),
    ],
)
def test_a_wrong_line_of_the_metadata_is_named(metadata: Path, name: str, line: int, text: str, words: str) -> None:
    path = metadata / name
    lines = path.read_text().splitlines()
    ids = (metadata / "image_ids.txt").read_text().splitlines()
    lines[line - 1] = text.format(id=ids[line - 1], first=ids[0])
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=words) as caught:
        read_metadata(metadata)
    assert f"{path}, line {line}:" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "line", "text", "words"),
    [
        ("images.txt", 2, "2", "2 fields are due"),
        ("images.txt", 2, "1 x.jpg", "second time"),
        ("image_class_labels.txt", 2, "2 0", "counts from 1"),
        ("image_class_labels.txt", 2, "99 1", "not in images.txt"),
        ("train_test_split.txt", 3, "3 2", r"1 \(train\) or 0 \(test\)"),
        ("bounding_boxes.txt", 4, "4 1.0 2.0 3.0", "5 fields are due"),
        ("bounding_boxes.txt", 4, "4 1.0 2.0 3.0 x", "numbers from 0"),
        ("classes.txt", 2, "5 005.x", "2 is due"),
    ],
)
def test_a_wrong_line_of_cub_is_named(tree, name: str, line: int, text: str, words: str) -> None:
    path = tree.root / name
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=words) as caught:
        read_classes(tree.root) if name == "classes.txt" else read_cub(tree.root, "test")
    assert f"{path}, line {line}:" in str(caught.value)


@pytest.mark.parametrize("name", ["class_labels.txt", "image_sizes.txt", "localization.txt"])
def test_a_missing_line_is_named_by_its_image(metadata: Path, name: str) -> None:
    path = metadata / name
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]))
    with pytest.raises(UserError, match=r"no line for '.*jpg' \(.*image_ids\.txt, line 6\)") as caught:
        read_metadata(metadata)
    assert str(caught.value).startswith(f"{path}: no line for ")


def test_missing_files_are_told_with_what_is_there(tree, metadata: Path, tmp_path: Path) -> None:
    (metadata / "localization.txt").unlink()
    with pytest.raises(UserError, match=r"(?s)no localization\.txt; .*found: +class_labels\.txt"):
        read_metadata(metadata)
    with pytest.raises(UserError, match=r"(?s)no \w+\.txt.*expected: .*found: +no such folder\n.*prepare_demo"):
        read_cub(tmp_path / "nowhere")
    (metadata / "localization.txt").write_text("")
    (metadata / "image_ids.txt").write_text("\n")
    with pytest.raises(UserError, match="no image in it"):
        read_metadata(metadata)
    (metadata / "image_ids.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_metadata(metadata)


def test_an_unreadable_image_is_named(tree) -> None:
    assert image_size(tree.root / "images" / tree.ids[0]) == tree.sizes[0]
    with pytest.raises(UserError, match=r"images\.txt: not a readable image"):
        image_size(tree.root / "images.txt")


def test_the_classes_of_cub(tree) -> None:
    assert read_classes(tree.root) == ["Black_footed_Albatross", "Laysan_Albatross", "Sooty_Albatross"]


@pytest.mark.parametrize(
    ("width", "height", "fits"), [(60, 50, True), (59, 50, True), (58, 50, False), (60, 48, False)]
)
def test_a_box_may_end_one_pixel_beyond_its_image(metadata: Path, width: int, height: int, fits: bool) -> None:
    set_line(metadata / "image_sizes.txt", 2, f"{{id}},{width},{height}")
    path = set_line(metadata / "localization.txt", 2, "{id},1,2,60,50")
    if fits:
        assert read_metadata(metadata)[1].boxes.tolist() == [[1, 2, 60, 50]]
    else:
        with pytest.raises(UserError, match=rf"outside its image '.*\.jpg' of {width} x {height} pixels") as caught:
            read_metadata(metadata)
        assert f"{path}, line 2:" in str(caught.value)


@pytest.mark.parametrize("corner", ["60,2,60,50", "1,50,60,50"])
def test_a_box_must_begin_in_its_image(metadata: Path, corner: str) -> None:
    set_line(metadata / "image_sizes.txt", 2, "{id},60,50")
    set_line(metadata / "localization.txt", 2, f"{{id}},{corner}")
    with pytest.raises(UserError, match="outside its image"):
        read_metadata(metadata)


def test_a_box_of_cub_outside_its_image_is_refused(tree) -> None:
    path = tree.root / "bounding_boxes.txt"
    lines = path.read_text().splitlines()
    width = tree.sizes[1][0]
    lines[1] = f"2 1.0 1.0 {width - 0.5} 5.0"  # ends half a pixel beyond
    path.write_text("\n".join(lines))
    assert read_cub(tree.root, "test")[0].boxes[0, 2] == width
    lines[1] = f"2 2.0 1.0 {width} 5.0"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"bounding_boxes\.txt, line 2: the box .* outside its image '{tree.ids[1]}'"):
        read_cub(tree.root, "test")


def test_every_mistake_names_the_id(metadata: Path) -> None:
    path = set_line(metadata / "class_labels.txt", 2, "{id},one")
    image_id = (metadata / "image_ids.txt").read_text().splitlines()[1]
    with pytest.raises(UserError) as caught:
        read_metadata(metadata)
    assert str(caught.value) == f"{path}, line 2: numbers from 0 are due for '{image_id}', and this is 'one'"


def test_a_line_of_column_names_is_called_that(metadata: Path) -> None:
    for name, header in (("image_ids", "image_id"), ("class_labels", "image_id,label")):
        path = metadata / f"{name}.txt"
        path.write_text(f"{header}\n{path.read_text()}")
    with pytest.raises(
        UserError, match=r"class_labels\.txt, line 1: .* this is 'label'; if this line names the columns, remove it"
    ):
        read_metadata(metadata)


@pytest.mark.parametrize("image_id", ["/etc/x.jpg", "../x.jpg", "a/../../x.jpg"])
def test_an_id_that_leads_outside_is_refused(metadata: Path, image_id: str) -> None:
    path = set_line(metadata / "image_ids.txt", 2, image_id)
    with pytest.raises(UserError, match="leads outside the image folder") as caught:
        read_metadata(metadata)
    assert str(caught.value).startswith(f"{path}, line 2: '{image_id}'")


def test_files_of_a_spreadsheet_are_read(metadata: Path) -> None:
    plain = [(record.image_id, record.boxes.tolist()) for record in read_metadata(metadata)]
    for path in metadata.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert [(record.image_id, record.boxes.tolist()) for record in read_metadata(metadata)] == plain


def test_an_id_may_hold_commas(metadata: Path) -> None:
    for path in metadata.iterdir():
        path.write_text(path.read_text().replace("001.Black_footed", "001.Black,footed"))
    assert read_metadata(metadata)[0].image_id.startswith("001.Black,footed_Albatross/")
