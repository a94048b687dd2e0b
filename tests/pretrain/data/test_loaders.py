"""Order, sharing and resuming of samples."""

import pytest

from pretrain.console import UserError
from pretrain.data.datasets import open_image_folder
from pretrain.data.loaders import EpochSampler
from pretrain.training.guards import images_a_process


def test_each_epoch_is_another_permutation():
    sampler = EpochSampler(12, 4, shuffle=True)
    sampler.start(0)
    first = list(sampler)
    sampler.start(1)
    second = list(sampler)
    assert [epoch for epoch, _ in first + second] == [0] * 12 + [1] * 12
    assert sorted(i for _, i in first) == sorted(i for _, i in second) == list(range(12))
    assert [i for _, i in first] != [i for _, i in second]


def test_ranks_share_an_epoch_without_overlap():
    parts = [list(EpochSampler(22, 5, shuffle=True, rank=rank, world_size=2)) for rank in range(2)]
    assert [len(part) for part in parts] == [10, 10]  # 22 samples hold two steps of 2 x 5
    assert len({i for part in parts for _, i in part}) == 20
    assert sorted(i for r in range(3) for _, i in EpochSampler(7, 2, False, rank=r, world_size=3)) == list(range(7))


def test_a_pass_can_start_in_the_middle():
    sampler = EpochSampler(12, 4, shuffle=True)
    whole = list(sampler)
    sampler.start(0, step=2)
    assert list(sampler) == whole[8:]
    assert len(sampler) == 4


def test_a_batch_is_shared_evenly_or_refused():
    assert images_a_process(256, 8, 1) == 32
    with pytest.raises(UserError, match="cannot be shared evenly by 3"):
        images_a_process(256, 3, 1)


def test_classes_must_be_in_both_parts(tmp_path):
    for folder in ("train/a", "train/b", "val/a"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "x.jpg").touch()
    with pytest.raises(UserError, match="not in both train/ and val/: b"):
        open_image_folder(tmp_path, lambda x: x, lambda x: x, 0, "make it")


def test_an_unreadable_image_is_named(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        (tmp_path / split / "a" / "x.jpg").write_bytes(b"\xff\xd8 not all of a picture")
    train_set, _ = open_image_folder(tmp_path, lambda x: x, lambda x: x, 0, "make it")
    with pytest.raises(UserError, match=r"a/x\.jpg: cannot be read as an image"):
        train_set[0, 0]
