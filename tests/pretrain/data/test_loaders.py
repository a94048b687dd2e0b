"""Order, sharing and resuming of samples."""

import multiprocessing
import os
import signal

import pytest
import torch
from PIL import Image
from timm.data.distributed_sampler import RepeatAugSampler
from torch.utils.data import Dataset
from torchvision.transforms import v2

from pretrain.console import STOP_SIGNALS, UserError
from pretrain.data.datasets import SeededImageFolder, open_image_folder
from pretrain.data.loaders import EpochSampler, build_loader, start, stop
from pretrain.data.seeds import derive_seed
from pretrain.data.transforms import TransformSettings, train_transform
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


def test_evaluation_sees_all_images_in_one_order_that_mixes_the_classes():
    sampler = EpochSampler(1000, 100, shuffle=False)  # of a folder of ten classes, each a hundred in a row
    order = list(sampler)
    assert order == list(sampler)
    assert sorted(order) == [(0, index) for index in range(1000)]
    for first in range(0, 1000, 100):
        assert len({index // 100 for _, index in order[first : first + 100]}) == 10
    shares = [list(EpochSampler(1000, 100, False, rank=rank, world_size=3)) for rank in range(3)]
    assert [order[rank::3] for rank in range(3)] == shares


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


@pytest.mark.parametrize("repeats", [2, 3])
@pytest.mark.parametrize("ranks", [1, 2])
def test_repeated_augmentation_is_in_timm_s_order(repeats, ranks, monkeypatch):
    """timm draws its permutation from the epoch alone: it is given ours, and all of the epoch's places."""
    length, epoch = 60, 3
    ours = torch.randperm(length, generator=torch.Generator().manual_seed(derive_seed(5, epoch)))
    for rank in range(ranks):
        sampler = EpochSampler(length, 5, shuffle=True, seed=5, rank=rank, world_size=ranks, repeats=repeats)
        sampler.start(epoch)
        found = list(sampler)
        reference = RepeatAugSampler(range(length), ranks, rank, num_repeats=repeats, selected_round=0)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randperm", lambda *_, **__: ours)
            assert [index for _, index, _ in found] == list(reference)
        assert {first for first, _, _ in found} == {epoch}
        assert [repeat for _, _, repeat in found] == [place % repeats for place in range(rank, length, ranks)]
        sampler.start(epoch, step=2)
        assert list(sampler) == found[10:]


def test_repeats_of_an_image_differ_and_the_first_is_what_it_is_without_them(tmp_path):
    (tmp_path / "a").mkdir()
    Image.effect_noise((40, 40), 90).save(tmp_path / "a/x.png")
    images = SeededImageFolder(tmp_path, v2.Compose([v2.PILToTensor(), v2.RandomCrop(16)]), seed=2)
    alone, *repeats = images[4, 0][0], *(images[4, 0, repeat][0] for repeat in range(3))
    assert torch.equal(alone, repeats[0])
    assert not any(torch.equal(repeats[i], repeats[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    assert list(EpochSampler(8, 2, shuffle=True, repeats=1)) == list(EpochSampler(8, 2, shuffle=True))


class Told(Dataset):
    """Gives back where it was asked for, the process that answered and whether that one is deaf to signals."""

    def __getitem__(self, position):
        deaf = set(STOP_SIGNALS) <= signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return torch.tensor([*position, os.getpid(), deaf]).view(1, 1, 4), 0

    def __len__(self):
        return 12


def test_workers_outlive_an_epoch_and_follow_the_sampler_s_new_order():
    sampler = EpochSampler(12, 4, shuffle=True, seed=1)
    loader = build_loader(Told(), sampler, 2, pin_memory=False)
    processes = set()
    for epoch, step in ((0, 0), (1, 0), (1, 2), (5, 1)):
        sampler.start(epoch, step)
        expected = list(sampler)
        rows = torch.cat([images.flatten(1) for images, _ in start(loader)]).tolist()
        assert [(row[0], row[1]) for row in rows] == expected
        assert all(row[3] for row in rows)
        processes |= {row[2] for row in rows}
    assert len(processes) == 2
    assert not set(STOP_SIGNALS) & signal.pthread_sigmask(signal.SIG_BLOCK, ())
    unfinished = start(loader)
    next(unfinished)
    sampler.start(7)
    rows = torch.cat([images.flatten(1) for images, _ in start(loader)]).tolist()
    assert [(row[0], row[1]) for row in rows] == list(sampler)  # a pass that was left does not show in the next


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_lie_in_memory_as_images_do(tmp_path, workers):
    (tmp_path / "a").mkdir()
    for number in range(4):
        Image.effect_noise((20, 24), 90).save(tmp_path / f"a/{number}.png")
    images = SeededImageFolder(tmp_path, v2.PILToTensor())
    sampler = EpochSampler(4, 4, shuffle=False)
    [(batch, labels)] = start(build_loader(images, sampler, workers, pin_memory=False))
    assert torch.equal(batch, torch.stack([images[position][0] for position in sampler]))
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert labels.tolist() == [0] * 4


def test_a_stopped_loader_leaves_no_process_behind(tmp_path):
    """Its workers are deaf to the SIGTERM by which multiprocessing ends them at the exit, which then waits for ever."""
    (tmp_path / "a").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "a/0.png")
    images = SeededImageFolder(tmp_path, train_transform(TransformSettings(size=8)))
    loader = build_loader(images, EpochSampler(1, 1, shuffle=False), 2, pin_memory=False)
    before = set(multiprocessing.active_children())
    for _ in range(2):  # it can be started once more
        assert len(list(start(loader))) == 1
        assert len(set(multiprocessing.active_children()) - before) == 2
        stop(loader)
        assert set(multiprocessing.active_children()) == before
