"""Which images a fraction takes."""

from itertools import pairwise

import pytest

from pretrain.console import UserError
from pretrain.data.prepare.subset import Census, choose, require_fraction

NAMES = [f"{number:03d}.jpg" for number in range(100)]


def census(fraction=1.0, seed=0):
    return Census("set", 2, {"train": 100, "val": 2}, fraction, seed)


def test_a_choice_depends_on_seed_class_and_names_alone():
    chosen = choose(NAMES, 10, 0, "cat")
    assert len(chosen) == 10
    assert choose(NAMES[::-1], 10, 0, "cat") == choose(set(NAMES), 10, 0, "cat") == chosen
    assert choose(NAMES, 10, 1, "cat") != chosen
    assert choose(NAMES, 10, 0, "dog") != chosen
    # for i in $(seq -w 0 99); do echo $(printf 0/cat/$i.jpg | sha256sum) $i; done | sort | head -3
    assert choose([f"{number:02d}.jpg" for number in range(100)], 3, 0, "cat") == {"65.jpg", "39.jpg", "46.jpg"}


def test_a_smaller_choice_is_part_of_a_larger_one():
    choices = [choose(NAMES, count, 5, "cat") for count in (1, 10, 50, 99, 100, 200)]
    assert all(small < large for small, large in pairwise(choices[:-1]))
    assert choices[-2] == choices[-1] == set(NAMES)


@pytest.mark.parametrize(("fraction", "train"), [(1.0, 100), (0.1, 10), (0.001, 1), (0.256, 26)])
def test_a_class_gives_its_share_and_at_least_one(fraction, train):
    count = census(fraction)
    assert len(count.add("train", "cat", NAMES)) == train
    assert len(count.add("val", "cat", ["1.jpg"])) == 1
    assert count.taken() == {"train": train, "val": 1}
    assert count.whole["train"]["cat"] == 100


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, float("nan")])
def test_a_fraction_outside_is_refused(fraction):
    with pytest.raises(UserError, match="a share above 0 and up to 1 is due"):
        require_fraction(fraction)


@pytest.mark.parametrize("name", ["", ".", "..", "../evil", "a/b", ".hidden", "a\0b"])
def test_a_name_that_is_no_file_is_refused(name):
    with pytest.raises(UserError, match="cannot be the name of a file"):
        census().add("train", "cat", ["1.jpg", name])
    with pytest.raises(UserError, match="cannot be the name of a file"):
        census().add("train", name, ["1.jpg"])


def test_what_stands_there_twice_is_refused():
    count = census()
    with pytest.raises(UserError, match=r"class 'cat' has two images 'b\.jpg' under train"):
        count.add("train", "cat", ["a.jpg", "b.jpg", "b.jpg"])
    count.add("train", "dog", ["a.jpg"])
    with pytest.raises(UserError, match="class 'dog' is there twice under train"):
        count.add("train", "dog", ["b.jpg"])


@pytest.mark.parametrize(
    ("labels", "counts", "message"),
    [
        (["cat", "dog"], (50, 1), None),
        (["cat", "dog"], (49, 1), "98 training images in the source, 2 too few: there should be 100"),
        (["cat", "dog"], (50, 2), "4 validation images in the source, 2 too many: there should be 2"),
        (["cat"], (100, 2), "1 classes in the source, and there should be 2"),
    ],
)
def test_the_whole_source_is_counted(labels, counts, message):
    count = census(fraction=0.1)
    for label in labels:
        for split, number in zip(("train", "val"), counts):
            count.add(split, label, NAMES[:number])
    if message is None:
        count.check()
    else:
        with pytest.raises(UserError, match=message):
            count.check()


def test_a_class_in_one_split_only_is_refused():
    count = census()
    count.add("train", "cat", NAMES)
    count.add("val", "cat", ["1.jpg"])
    count.add("val", "dog", ["1.jpg"])
    with pytest.raises(UserError, match="1 classes are not in both splits: dog"):
        count.check()
