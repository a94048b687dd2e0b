"""The data-set card."""

import json

import pytest

from pretrain.console import UserError
from pretrain.data.card import DataCard, check_against, read_data_card, write_data_card

CARD = DataCard("CIFAR-10", ["cat", "dog"], {"train": 50, "val": 10}, 0.1, 3, {"x.tar.gz": "md5:0"})


def test_a_card_comes_back_as_it_was(tmp_path):
    assert read_data_card(tmp_path) is None
    write_data_card(tmp_path, CARD)
    assert json.loads((tmp_path / "dataset.json").read_text()) == {
        "name": "CIFAR-10",
        "classes": ["cat", "dog"],
        "images": {"train": 50, "val": 10},
        "fraction": 0.1,
        "seed": 3,
        "source": {"x.tar.gz": "md5:0"},
    }
    assert read_data_card(tmp_path) == CARD


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "dataset.json: not valid JSON"),
        ("[]", r"not a data-set card \(.*prepare the data set again, or remove the file"),
        ('{"name": "x"}', r"not a data-set card \(classes: field required\)"),
        ('{"name": "x", "classes": ["a"], "images": {"train": "many"}}', r"not a data-set card \(images\.train: "),
        ('{"name": "x", "classes": ["a"], "images": {}, "colour": 1}', r"not a data-set card \(colour: unexpected"),
    ],
)
def test_what_is_no_card_is_refused(tmp_path, content, message):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read_data_card(tmp_path)


@pytest.mark.parametrize(
    ("split", "classes", "count", "message"),
    [
        ("train", ["cat", "dog"], 50, None),
        ("val", ["cat", "dog"], 10, None),
        ("train", ["cat"], 50, r"data/train: 1 class folders of dataset\.json are not there: dog; run again: PREPARE"),
        ("train", ["cat", "cow", "dog"], 50, r"data/train: 1 class folders are not in dataset\.json: cow;"),
        (
            "train",
            ["cat", "dog"],
            49,
            "data: half-extracted: 49 images under train/, the card says 50; run again: PREP",
        ),
        ("val", ["cat", "dog"], 11, "data: 11 images under val/, and the card says 10; remove what does not belong"),
        ("test", ["cat", "dog"], 11, r"data/dataset\.json: it counts no images of 'test'"),
    ],
)
def test_folders_and_card_have_to_agree(split, classes, count, message):
    if message is None:
        check_against(CARD, "data", split, classes, count, "PREPARE")
    else:
        with pytest.raises(UserError, match=message):
            check_against(CARD, "data", split, classes, count, "PREPARE")
