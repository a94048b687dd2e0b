"""The stream of training pictures: the same for a seed, and entered at any iteration without reading what lies before.

Detectron2's own loader starts its stream anew after a resume; mmengine's reads and throws away every picture that was
seen before. Both draw augmentations from generators that no checkpoint holds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pretrain.console import UserError


class Pictures(Protocol):
    """What is read: pictures by their index, augmented."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@dataclass
class Stream:
    """An endless iterable of batches; it starts at batch `start`, which may be set until it is iterated.

    Attributes:
        dataset: The pictures, read and augmented by index in the workers.
        wide: For each picture, whether it goes with the wide ones.
        batch: Pictures in a batch of one rank.
        seed: Of the order and of the augmentations.
        rank: This process.
        world_size: Number of processes.
        collate: Makes a batch of a list of pictures.
        workers: Processes that read; 0 reads in this one.
        start: Number of batches to pass over.
        settings: Further arguments of torch's DataLoader.
    """

    dataset: Pictures
    wide: list[bool]
    batch: int
    seed: int
    rank: int
    world_size: int
    collate: Callable[[list[Any]], Any]
    workers: int = 0
    start: int = 0
    settings: dict[str, Any] | None = None

    def __len__(self) -> int:
        """Return the number of batches in a pass over the pictures; the stream goes on."""
        return len(self.dataset) // (self.batch * self.world_size)

    def __iter__(self) -> Iterator[Any]:
        loader = DataLoader(
            SeededPictures(self.dataset, self.seed),
            batch_sampler=batch_positions(
                self.wide, self.batch, self.seed, self.rank, self.world_size, self.start
            ),  # an iterator: torch does not ask for its length
            num_workers=self.workers,
            collate_fn=self.collate,
            generator=torch.Generator(),  # else it draws from torch's global one, in whichever iteration it starts
            **(self.settings or {}),
        )
        try:
            yield from loader
        except UserError as error:  # a worker's comes with its traceback before it
            raise UserError(told_by_worker(error)) from error


class SeededPictures(Dataset[Any]):
    """Pictures addressed by (position in the stream, index); augmented from the seed and the position alone."""

    def __init__(self, pictures: Pictures, seed: int) -> None:
        self._pictures = pictures
        self._seed = seed

    def __getitem__(self, place: tuple[int, int]) -> Any:
        """Return the augmented picture; both frameworks' augmentations draw from NumPy's or Python's generator."""
        position, index = place
        words = np.random.SeedSequence([self._seed, position]).generate_state(4)
        np.random.seed(words)
        random.seed(words.tobytes())
        return self._pictures[index]

    def __len__(self) -> int:
        return len(self._pictures)


def batch_positions(
    wide: list[bool], batch: int, seed: int, rank: int, world_size: int, start: int = 0
) -> Iterator[list[tuple[int, int]]]:
    """Yield, without end, batches of (position in the stream, index) for one rank.

    As both frameworks do it: one stream of permutations shared by all ranks, rank r taking every world_size-th entry;
    within a rank, wide and other pictures are batched apart. The start costs no decoding.

    Args:
        wide: For each picture, whether it goes with the wide ones.
        batch: Pictures in a batch of one rank.
        seed: Of the permutations.
        rank: This process.
        world_size: Number of processes.
        start: Number of batches to pass over.
    """
    generator = torch.Generator().manual_seed(seed)
    buckets: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    position = made = 0
    while True:
        for index in torch.randperm(len(wide), generator=generator).tolist():
            if position % world_size == rank:
                bucket = buckets[bool(wide[index])]
                bucket.append((position, index))
                if len(bucket) == batch:
                    made += 1
                    if made > start:
                        yield list(bucket)
                    bucket.clear()
            position += 1


def told_by_worker(error: UserError) -> str:
    """Return the line of a UserError that a DataLoader's worker raised, without the traceback before it."""
    return str(error).rpartition("pretrain.console.UserError: ")[2].strip()


def seed_step(seed: int, rank: int, iteration: int) -> None:
    """Seed torch, NumPy and Python for one iteration, so that a resumed run samples as an unbroken one does."""
    words = np.random.SeedSequence([seed, rank, iteration]).generate_state(4)
    torch.manual_seed(int.from_bytes(words[:2].tobytes(), "little") >> 1)
    np.random.seed(words)
    random.seed(words.tobytes())
