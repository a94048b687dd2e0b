"""Where score maps come from: a network, or a folder. A source is called with images, in any order and any number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from wsol.ahead import batches_ahead
from wsol.maps.cam import to_score_map
from wsol.maps.explain import Mapper
from wsol.maps.images import prepare, read_rgb
from wsol.maps.scoremaps import read_score_map, score_map_path
from wsol.metadata import ImageRecord, find_image

ScoreMap = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scored:
    """One image, its score map, and what is known of its class.

    Attributes:
        record: The image.
        make: Returns the score map (H, W) float64 in [0, 1]; called by the thread that measures it. None once that
            is done.
        rank: How many classes the network put before the true one, 0 for none; None where there is no prediction.
        where: The image's id, or the file of its map, for messages.
        predicted: The network's class, its place among the network's own; None likewise.
        unlike: The image is not of the size that its metadata give.
    """

    record: ImageRecord
    make: Callable[[], ScoreMap] | None
    rank: int | None = None
    predicted: int | None = None
    where: str = ""
    unlike: bool = False

    def score_map(self) -> ScoreMap:
        """Return the score map."""
        if self.make is None:
            raise ValueError(f"{self.record.image_id}: its score map was not kept")
        return self.make()

    def without_map(self) -> Scored:
        """Return the same without what the score map takes in memory."""
        return replace(self, make=None)


class Source(Protocol):
    """What makes score maps of images, in the images' order."""

    def __call__(self, records: Sequence[ImageRecord]) -> Iterator[Scored]: ...


@dataclass
class NetworkMaps:
    """Score maps of a network's class activation maps.

    Args:
        mapper: Makes the raw maps of a batch.
        card: How images are normalised.
        class_of_label: (labels,) int64, the network's class of each label of the data.
        data: Root of the images.
        size: Images are resized to this square, and maps too, in pixels.
        device: Where the network lies.
        batch_size: Images in a forward pass.
        workers: Threads that read images.
    """

    mapper: Mapper
    card: BackboneCard
    class_of_label: npt.NDArray[np.int64]
    data: str | Path
    size: int
    device: torch.device
    batch_size: int
    workers: int
    grid: tuple[int, int] = (0, 0)  # height and width of the feature map behind the last maps

    def __call__(self, records: Sequence[ImageRecord]) -> Iterator[Scored]:
        """Yield each image with its map.

        Raises:
            UserError: An image is missing or damaged, or the network gives no such map.
        """
        for batch in batches_ahead(records, self._load, self.batch_size, self.workers):
            images = torch.stack([image for _, (image, _) in batch]).to(self.device)
            labels = torch.from_numpy(self.class_of_label[[record.label for record, _ in batch]])
            made = self.mapper(images, labels)
            self.grid = made.grid
            ranks, predicted = ranks_of(made.logits, labels), made.logits.argmax(dim=1).tolist()
            for place, (record, (_, unlike)) in enumerate(batch):
                make = partial(to_score_map, made.maps[place], (self.size, self.size))
                yield Scored(record, make, ranks[place], predicted[place], record.image_id, unlike)

    def _load(self, record: ImageRecord) -> tuple[Tensor, bool]:
        image = read_rgb(find_image(self.data, record.image_id))
        return prepare(image, self.size, self.card), record.size not in (image.size, (0, 0))


@dataclass
class FolderMaps:
    """Score maps on disk, this program's or another's.

    Args:
        folder: Holds IMAGE_ID.npy.

    Attributes:
        dtypes: The types that the maps had, by name.
    """

    folder: str | Path

    def __post_init__(self) -> None:
        self.shape: tuple[int, ...] | None = None
        self.dtypes: set[str] = set()

    def __call__(self, records: Sequence[ImageRecord]) -> Iterator[Scored]:
        """Yield each image; its file is read when the map is asked for."""
        for record in records:
            yield Scored(
                record, partial(self._read, record.image_id), where=str(score_map_path(self.folder, record.image_id))
            )

    def _read(self, image_id: str) -> ScoreMap:
        """Read one map.

        Raises:
            UserError: It is missing, no array, or of another shape than one before it.
        """
        found, dtype = read_score_map(self.folder, image_id)
        self.dtypes.add(dtype)
        self.shape = self.shape or found.shape
        if found.shape != self.shape:
            path = score_map_path(self.folder, image_id)
            raise UserError(f"{path}: its shape is {found.shape}, and that of the maps before it {self.shape}")
        return found


def ranks_of(logits: Tensor, labels: Tensor) -> list[int]:
    """Return how many classes stand before the true one, for each image; of equal logits the first class counts more.

    Args:
        logits: (N, classes) float.
        labels: (N,) int, the true classes.
    """
    own = logits.gather(1, labels[:, None])
    before = torch.arange(logits.shape[1])[None, :] < labels[:, None]
    # Whatever does not stand behind the true class stands before it, NaN too: no class is found among NaN.
    return (~((logits < own) | ((logits == own) & ~before))).sum(dim=1).tolist()
