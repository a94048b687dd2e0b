"""Data for Detectron2: registration from any root, and a training loader that can be entered at any iteration."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.common import DatasetFromList
from detectron2.data.datasets import register_coco_instances, register_pascal_voc
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from pretrain.console import UserError
from transfer.datasets import VOC_CLASSES, VocSplit, preflight


def register(names: Iterable[str], root: str | Path) -> None:
    """Register the data sets under `root` with Detectron2, in place of what it registered for $DETECTRON2_DATASETS.

    Raises:
        UserError: One is missing or damaged; see transfer.datasets.
    """
    for split in preflight(dict.fromkeys(names), root):
        if split.name in DatasetCatalog.list():
            DatasetCatalog.remove(split.name)
            MetadataCatalog.remove(split.name)
        if isinstance(split, VocSplit):
            register_pascal_voc(split.name, str(split.folder), split.split, split.year, VOC_CLASSES)
            MetadataCatalog.get(split.name).evaluator_type = "pascal_voc"
        else:
            register_coco_instances(split.name, {}, str(split.annotations), str(split.images))


def check_classes(cfg: CfgNode) -> None:
    """Raise a UserError where the number of classes differs between the config and its data sets."""
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if "thing_classes" not in MetadataCatalog.get(name).as_dict():
            DatasetCatalog.get(name)  # Detectron2's COCO reader learns the classes as it reads
        number = len(MetadataCatalog.get(name).thing_classes)
        if number != cfg.MODEL.ROI_HEADS.NUM_CLASSES:
            raise UserError(
                f"{name} has {number} classes, the config says {cfg.MODEL.ROI_HEADS.NUM_CLASSES}; set "
                f"MODEL.ROI_HEADS.NUM_CLASSES {number}"
            )


class NamingMapper(DatasetMapper):
    """Detectron2's reader of pictures, which names the file that it cannot read, and the remedy."""

    def __call__(self, picture: dict[str, Any]) -> dict[str, Any]:
        try:
            read: dict[str, Any] = super().__call__(picture)
        except (OSError, ValueError) as error:  # unreadable, cut short; or not of the size that its annotation says
            reason = " ".join(str(error).split())
            raise UserError(f"{picture['file_name']}: cannot be used ({reason}); fetch the data set again") from error
        return read


class TrainLoader:
    """An endless iterable of batches, the same for a seed; it starts at batch `start`, which may be set until then.

    Detectron2's own loader starts its stream anew after a resume, and draws its augmentations from a generator that
    no checkpoint holds. Here a picture's augmentation depends on the seed and its position in the stream alone.
    """

    def __init__(self, cfg: CfgNode, start: int = 0) -> None:
        """Read the lists of pictures; nothing is decoded yet.

        Args:
            cfg: DATASETS.TRAIN, SOLVER.IMS_PER_BATCH, DATALOADER.* and SEED are used.
            start: Number of batches to pass over.
        """
        self.start = start
        self._workers = cfg.DATALOADER.NUM_WORKERS
        self._dicts = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        )
        self._pictures = SeededPictures(self._dicts, NamingMapper(cfg, is_train=True), cfg.SEED)
        self._batch = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
        self._grouping = cfg.DATALOADER.ASPECT_RATIO_GROUPING
        self._seed = cfg.SEED

    def first_batches(self) -> TrainLoader:
        """Return the same stream from its beginning, read in this process."""
        loader = copy.copy(self)
        loader.start = loader._workers = 0
        return loader

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        wide = [self._grouping and picture["width"] > picture["height"] for picture in self._dicts]
        batches = batch_positions(wide, self._batch, self._seed, comm.get_rank(), comm.get_world_size(), self.start)
        loader = DataLoader(
            self._pictures,
            batch_sampler=batches,
            num_workers=self._workers,
            collate_fn=_as_list,
            generator=torch.Generator(),  # else it draws from torch's global one, in whichever iteration it starts
        )
        try:
            yield from loader
        except UserError as error:  # a worker's comes with its traceback before it
            raise UserError(str(error).rpartition("pretrain.console.UserError: ")[2].strip()) from error


class SeededPictures(Dataset[dict[str, Any]]):
    """Pictures addressed by (position in the stream, index); augmented from the seed and the position alone."""

    def __init__(self, dicts: list[dict[str, Any]], mapper: DatasetMapper, seed: int) -> None:
        self._dicts = DatasetFromList(dicts)
        self._mapper = mapper
        self._seed = seed

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Any]:
        """Return the augmented picture; Detectron2's augmentations draw from NumPy's global generator."""
        position, index = place
        np.random.seed(np.random.SeedSequence([self._seed, position]).generate_state(4))
        picture: dict[str, Any] = self._mapper(self._dicts[index])
        return picture

    def __len__(self) -> int:
        return len(self._dicts)


def batch_positions(
    wide: list[bool], batch: int, seed: int, rank: int, world_size: int, start: int = 0
) -> Iterator[list[tuple[int, int]]]:
    """Yield, without end, batches of (position in the stream, index) for one rank.

    As Detectron2 does it: one stream of permutations shared by all ranks, rank r taking every world_size-th entry;
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


def _as_list(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return batch
