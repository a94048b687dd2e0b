"""Handwritten digits as folders: scikit-learn's own values, few of each for training, and nothing of others erased."""

import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pretrain.console import UserError
from pretrain.data.prepare import digits
from pretrain.data.prepare.digits import write_digits


def test_every_digit_is_there_once_and_with_its_own_ink(tmp_path):
    card = write_digits(tmp_path / "d i", labelled=4, seed=3)
    assert card.images == {"train": 40, "val": 1757}
    values, labels = load_digits(return_X_y=True)
    paths = sorted((tmp_path / "d i").glob("*/*/*.png"), key=lambda path: path.name)
    assert [path.name for path in paths] == [f"{number:04d}.png" for number in range(1797)]
    assert [int(path.parent.name) for path in paths] == labels.tolist()
    for number in (0, 700, 1796):
        seen = np.asarray(Image.open(paths[number]))
        assert np.array_equal(np.rint(seen / 255 * 16), values[number].reshape(8, 8))
    for digit in range(10):
        assert len(list((tmp_path / "d i/train" / str(digit)).iterdir())) == 4
    other = write_digits(tmp_path / "other", labelled=4, seed=4)
    assert {p.name for p in tmp_path.glob("d i/train/*/*")} != {p.name for p in tmp_path.glob("other/train/*/*")}
    assert other.seed == 4


def test_the_same_set_is_kept_and_another_or_a_damaged_one_is_named(tmp_path):
    write_digits(tmp_path)
    before = (tmp_path / "dataset.json").stat().st_mtime_ns
    assert write_digits(tmp_path).images == {"train": 100, "val": 1697}
    assert (tmp_path / "dataset.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"another set \(digits: train 100, val 1697; seed 0\); delete it, or name"):
        write_digits(tmp_path, labelled=5)
    shutil.rmtree(tmp_path / "val/3")
    with pytest.raises(
        UserError, match=r"/val: 15\d\d images, and its card says 1697; delete .* the same command again"
    ):
        write_digits(tmp_path)


@pytest.mark.parametrize("labelled", [0, -1, 174])
def test_the_number_of_labels_has_limits(tmp_path, labelled):
    with pytest.raises(UserError, match=rf"--labelled is {labelled}; .* 1 to 173 do"):
        write_digits(tmp_path / "out", labelled)
    assert not (tmp_path / "out").exists()


def test_images_of_others_are_not_erased(tmp_path):
    """Folders of digits are called like this one's own."""
    own = tmp_path / "train/0/mine.png"
    own.parent.mkdir(parents=True)
    own.touch()
    with pytest.raises(UserError, match=r"holds other things \(train\); give a new or an empty folder"):
        write_digits(tmp_path)
    assert own.is_file()


def test_a_set_that_was_cut_short_is_written_anew(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(digits, "write_data_card", stop)
        with pytest.raises(KeyboardInterrupt):
            write_digits(tmp_path, labelled=9)
    write_digits(tmp_path, labelled=2)
    assert len(list(tmp_path.glob("train/*/*.png"))) == 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset.json", "train", "val"]
