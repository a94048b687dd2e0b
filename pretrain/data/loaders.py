"""Batches in an order that (seed, epoch) fixes, so that a run can go on from any step."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, default_collate
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from pretrain.console import STOP_SIGNALS, UserError
from pretrain.data.datasets import Position, SeededImageFolder
from pretrain.data.seeds import derive_seed
from pretrain.data.soft_labels import JoinedImages


class EpochSampler(Sampler[Position]):
    """Yields (epoch, index); the order is a permutation drawn from (seed, epoch) and shared out over the ranks.

    With repeated augmentation (Hoffer et al. 2020) each image of the permutation comes `repeats` times in a row, as
    (epoch, index, repeat), so that the repeats go to different ranks where there are several; an epoch keeps its length
    and so sees one image in `repeats`. This is the order of timm's RepeatAugSampler.

    Args:
        length: Number of samples in the data set.
        batch_size: Samples a rank and step; the incomplete last batch of an epoch is dropped when shuffling.
        shuffle: False for evaluation: every pass in one mixed order, which the length alone decides, since in the
            folder's own a batch may hold one class and so no pair to mix; nothing dropped, ranks may differ by one
            sample.
        seed: Of the run.
        rank, world_size: This process and their number.
        repeats: Of each image when shuffling.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        repeats: int = 1,
    ) -> None:
        self.length, self.batch_size, self.shuffle, self.seed = length, batch_size, shuffle, seed
        self.rank, self.world_size, self.repeats = rank, world_size, repeats
        self.epoch = 0
        self.first_step = 0

    @property
    def steps_per_epoch(self) -> int:
        """Full steps of an epoch when shuffling."""
        return self.length // (self.batch_size * self.world_size)

    def start(self, epoch: int, step: int = 0) -> None:
        """Begin the next pass at `epoch`, leaving out its first `step` batches (they were done before a resume)."""
        self.epoch, self.first_step = epoch, step

    def __iter__(self) -> Iterator[Position]:
        if not self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.length))
            order = torch.randperm(self.length, generator=generator).tolist()
            yield from ((0, index) for index in order[self.rank :: self.world_size])
            return
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        order = torch.randperm(self.length, generator=generator).tolist()
        used = self.steps_per_epoch * self.batch_size * self.world_size
        for place in range(self.rank, used, self.world_size)[self.first_step * self.batch_size :]:
            index, repeat = order[place // self.repeats], place % self.repeats
            yield (self.epoch, index, repeat) if self.repeats > 1 else (self.epoch, index)

    def __len__(self) -> int:
        if self.shuffle:
            return (self.steps_per_epoch - self.first_step) * self.batch_size
        return len(range(self.rank, self.length, self.world_size))


def build_loader(
    dataset: SeededImageFolder | JoinedImages, sampler: EpochSampler, workers: int, pin_memory: bool
) -> DataLoader:
    """Return a loader of uint8 images (N, 3, H, W) and labels, in the sampler's order.

    Labels are (N,) int64, or (N, K) float32 of images with soft labels. A transform that makes views of an image makes
    the images (N, V, 3, H, W). In memory the channels come last, as in the images that make a batch. Workers stay until
    `stop` ends them.
    """
    return DataLoader(
        dataset,
        batch_size=sampler.batch_size,
        sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,  # they are told each batch's positions, so the order may change
        drop_last=False,
        collate_fn=_collate,
    )


def _collate(samples: list[tuple[Tensor, Tensor | int]]) -> list[Tensor]:
    """Stack images as they lie in memory: a tenth of the time of bringing the channels forward."""
    images, labels = default_collate([(image.movedim(-3, -1), label) for image, label in samples])
    return [images.movedim(-1, -3), labels]


def start(loader: DataLoader) -> Iterator[list[Tensor]]:
    """Return the loader's iterator, its workers deaf to the signals that ask a run to stop.

    A cluster sends them to every process. A worker that dies of one may hold a lock, and the run would wait for it for
    ever; so they are blocked before the workers come to be, and stay blocked in them.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def batches_of(loader: DataLoader) -> Iterator[list[Tensor]]:
    """Yield the loader's batches; what a worker meets is told in its own sentence, without the worker's traceback."""
    batches = start(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except UserError as error:  # a worker's comes with the worker's traceback, its own sentence last
            raise UserError(str(error).strip().splitlines()[-1].partition("UserError: ")[2] or str(error)) from None
        yield batch


def far_pairs(length: int, count: int) -> list[int]:
    """Return 2 `count` numbers of images, neighbours half a data set apart: classes lie in order."""
    return torch.linspace(0, length - 1, 2 * count).long().view(2, count).T.flatten().tolist()


def stop(loader: DataLoader) -> None:
    """End a loader's workers, which are deaf to the SIGTERM that a process sends them at its exit, to wait for them."""
    workers = loader._iterator  # torch has no public way; None where there are none
    if isinstance(workers, _MultiProcessingDataLoaderIter):
        workers._shutdown_workers()
        loader._iterator = None
