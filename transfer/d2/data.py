"""Data for Detectron2: registration from any root, and the stream of training pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.common import DatasetFromList, MapDataset
from detectron2.data.datasets import register_coco_instances, register_pascal_voc
from detectron2.utils import comm

from pretrain.console import UserError
from transfer.datasets import VOC_CLASSES, VocSplit, preflight
from transfer.finetuning.stream import Stream


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


def train_stream(cfg: CfgNode) -> Stream:
    """Return the stream of training pictures; their lists are read, nothing is decoded yet.

    Args:
        cfg: DATASETS.TRAIN, SOLVER.IMS_PER_BATCH, DATALOADER.* and SEED are used.
    """
    dicts = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    grouping = cfg.DATALOADER.ASPECT_RATIO_GROUPING
    return Stream(
        MapDataset(DatasetFromList(dicts), NamingMapper(cfg, is_train=True)),
        wide=[grouping and picture["width"] > picture["height"] for picture in dicts],
        batch=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
        seed=cfg.SEED,
        rank=comm.get_rank(),
        world_size=comm.get_world_size(),
        collate=list,
        workers=cfg.DATALOADER.NUM_WORKERS,
    )
