"""The training stream: complete, shared out among the ranks, and the same from whichever batch it is entered."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest
import torch

from pretrain.console import UserError
from transfer.finetuning.stream import Stream, batch_positions, seed_step

WIDE = [index % 3 == 0 for index in range(10)]


class Dice:
    """Ten pictures that are thrown, not read: the index, and a number of each generator that augmentations use."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> tuple[int, float, float]:
        if index == 7:
            raise UserError("7.jpg: cannot be used")
        return index, float(np.random.rand()), random.random()


def stream(wide: list[bool], **settings: int) -> Stream:
    return Stream(Dice(), wide, batch=2, seed=3, rank=0, world_size=1, collate=list, **settings)


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_belongs_to_the_position(workers: int) -> None:
    safe = [index != 7 for index in range(10)]  # the seventh is batched apart, and its batch of two is late
    whole = list(islice(stream(safe), 4))
    np.random.seed(99)  # whatever happens to the global generators meanwhile
    random.seed(99)
    assert list(islice(stream(safe, start=1, workers=workers), 3)) == whole[1:]
    numbers = [number for batch in whole for _, *thrown in batch for number in thrown]
    assert len(set(numbers)) == 16


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_worker_is_told_in_its_own_line(workers: int) -> None:
    with pytest.raises(UserError) as caught:
        list(islice(stream([False] * 10, workers=workers), 5))
    assert str(caught.value) == "7.jpg: cannot be used"


def test_a_step_is_seeded_by_seed_rank_and_iteration() -> None:
    def thrown(seed: int, rank: int, iteration: int) -> tuple[float, float, float]:
        seed_step(seed, rank, iteration)
        return torch.rand(()).item(), float(np.random.rand()), random.random()

    first = thrown(0, 0, 5)
    assert thrown(0, 0, 5) == first
    for other in ((1, 0, 5), (0, 1, 5), (0, 0, 6)):
        assert all(a != b for a, b in zip(first, thrown(*other)))


def test_an_epoch_holds_every_picture_once() -> None:
    entries = [entry for batch in islice(batch_positions([True] * 10, 5, 0, 0, 1), 4) for entry in batch]
    assert [position for position, _ in entries] == list(range(20))
    assert sorted(index for _, index in entries[:10]) == list(range(10))
    assert sorted(index for _, index in entries[10:]) == list(range(10))
    assert [index for _, index in entries[:10]] != [index for _, index in entries[10:]]


def test_wide_pictures_are_batched_apart() -> None:
    for batch in islice(batch_positions(WIDE, 2, 0, 0, 1), 20):
        assert len(batch) == 2
        assert len({WIDE[index] for _, index in batch}) == 1


def test_entering_later_gives_the_same_batches() -> None:
    whole = list(islice(batch_positions(WIDE, 2, 3, 0, 1), 30))
    assert list(islice(batch_positions(WIDE, 2, 3, 0, 1, start=11), 19)) == whole[11:]
    assert list(islice(batch_positions(WIDE, 2, 4, 0, 1), 30)) != whole


def test_ranks_share_one_stream() -> None:
    """Rank r takes positions r, r + W, ...: together every position once."""
    one = {entry for batch in islice(batch_positions([True] * 10, 1, 0, 0, 1), 20) for entry in batch}
    two = {
        entry for rank in (0, 1) for batch in islice(batch_positions([True] * 10, 1, 0, rank, 2), 10) for entry in batch
    }
    assert one == two
