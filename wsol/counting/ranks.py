"""Several processes of one evaluation, started by torchrun: each takes its share of the images, and counts add up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed

from pretrain.console import UserError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Ranks:
    """A process among those of the evaluation.

    Attributes:
        rank: Its number, from 0.
        world: How many there are.
        local: Its number on its machine.
    """

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return this process's items: every world-th one. Shares may differ by one; nothing is padded."""
        return items[self.rank :: self.world]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within it a UserError of one process is raised in all of them, so that none waits and the first one says it.

        Raises:
            UserError: That of the first process that has one.
        """
        mine: UserError | None = None
        try:
            yield
        except UserError as error:
            mine = error
        said = [str(mine) if mine else None]
        if self.world > 1:
            said = [None] * self.world
            distributed.all_gather_object(said, str(mine) if mine else None)
        for message in said:
            if message is not None:
                raise UserError(message) from mine

    def add_up(self, counts: Sequence[npt.NDArray[np.int64]]) -> None:
        """Replace the counts by their sums over all processes, in one exchange."""
        if self.world == 1:
            return
        flat = torch.from_numpy(np.concatenate([array.ravel() for array in counts]))
        distributed.all_reduce(flat)
        for array, part in zip(counts, np.split(flat.numpy(), np.cumsum([array.size for array in counts])[:-1])):
            array[...] = part.reshape(array.shape)

    def gather(self, rows: Sequence[Item]) -> list[Item]:
        """Return every process's rows in the order of the images; on all but the first process nothing."""
        if self.world == 1:
            return list(rows)
        parts: list[list[Item]] | None = [[] for _ in range(self.world)] if self.first else None
        distributed.gather_object(list(rows), parts)
        if parts is None:
            return []
        longest = max(map(len, parts))
        return [part[place] for place in range(longest) for part in parts if place < len(part)]


@contextmanager
def of_torchrun() -> Iterator[Ranks]:
    """Join the processes that torchrun started, and leave them in the end; alone without torchrun."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    distributed.init_process_group("gloo")  # counts and rows lie in main memory, on a machine with GPUs too
    try:
        yield Ranks(distributed.get_rank(), world, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        distributed.destroy_process_group()
