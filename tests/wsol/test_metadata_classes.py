"""The names of the data's classes, and their places among those of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pretrain.console import UserError
from wsol.metadata import ImageRecord, class_names, match_classes, read_cub


def records(*pairs: tuple[str, int]) -> list[ImageRecord]:
    return [ImageRecord(image_id, label, (9, 9), np.array([[0, 0, 1, 1]])) for image_id, label in pairs]


def test_names_come_from_classes_txt_first(tree) -> None:
    names = ["Black_footed_Albatross", "Laysan_Albatross", "Sooty_Albatross"]
    assert class_names(records(("other/x.jpg", 0)), tree.root) == names
    assert class_names(read_cub(tree.root, "test"), None) == names  # the folders say the same
    with pytest.raises(UserError, match=r"x\.jpg is of class 3 \(from 0\), and .*classes\.txt lists 3"):
        class_names(records(("x.jpg", 3)), tree.root)


def test_names_come_from_the_folders(tmp_path: Path) -> None:
    assert class_names(records(("b/1.jpg", 0), ("a/1.jpg", 1), ("b/2.jpg", 0)), tmp_path) == ["b", "a"]
    # OpenImages: the split comes before the class.
    assert class_names(records(("val/01226z/1.jpg", 0), ("test/0138tl/1.jpg", 1)), None) == ["01226z", "0138tl"]
    assert class_names(records(("c/1.jpg", 2), ("a/1.jpg", 0)), None) == ["a", "", "c"]


@pytest.mark.parametrize(
    "pairs",
    [
        [("val/ILSVRC2012_val_00000001.JPEG", 65), ("val/ILSVRC2012_val_00000002.JPEG", 970)],
        [("val2/0/a.jpeg", 0), ("val2/7/b.jpeg", 7)],  # ImageNetV2's folders are the labels themselves
        [("a/1.jpg", 0), ("b/2.jpg", 0), ("c/3.jpg", 1)],
        [("1.jpg", 0), ("2.jpg", 1)],
    ],
)
def test_folders_that_do_not_tell_the_class_are_no_names(pairs: list[tuple[str, int]]) -> None:
    assert class_names(records(*pairs), None) is None


def test_classes_are_matched_by_name_without_their_numbers() -> None:
    found, how = match_classes(["001.a", "002.b"], ["c", "017.b", "a"], 2)
    assert (found.tolist(), found.dtype) == ([2, 1], np.int64)
    assert how == "by name: 2 of the checkpoint's 3 classes"
    with pytest.raises(UserError, match=r"1 of the data's 2 classes .* 2: d; train"):
        match_classes(["001.a", "002.d"], ["a", "b"], 2)
    with pytest.raises(UserError, match=r"4 of .*: d, e, f, \.\.\.;"):
        match_classes(["d", "e", "f", "g"], ["a"], 4)
    with pytest.raises(UserError, match="checkpoint has two classes of the name 'a'"):
        match_classes(["a"], ["001.a", "002.a"], 1)
    with pytest.raises(UserError, match="data has two classes of the name 'a'"):
        match_classes(["001.a", "002.a"], ["a", "b"], 2)


def test_a_label_without_images_has_no_class() -> None:
    found, how = match_classes(["a", "", "", "b"], ["b", "a"], 4)
    assert found.tolist() == [1, -1, -1, 0]
    assert how == "by name: 2 of the checkpoint's 2 classes"


def test_without_names_classes_are_matched_by_index_and_that_is_said() -> None:
    found, how = match_classes(None, ["tench", "goldfish", "shark"], 2)
    assert (found.tolist(), found.dtype) == ([0, 1], np.int64)
    assert how == (
        "BY INDEX, for the data have no class names: the data's 2 labels are taken as the first of 3 classes"
    )
    found, how = match_classes(["a", "b"], ["0", "1", "2"], 2)
    assert found.tolist() == [0, 1]
    assert "BY INDEX, for the checkpoint has no class names" in how
    for names, classes in ((None, ["a", "b"]), (["a", "b", "c"], ["0", "1"])):
        with pytest.raises(UserError, match="labels up to 2, and the checkpoint has 2 classes"):
            match_classes(names, classes, 3)
    # Numbers in another order are names like any other.
    assert match_classes(["1", "0"], ["0", "1", "7"], 2)[0].tolist() == [1, 0]
