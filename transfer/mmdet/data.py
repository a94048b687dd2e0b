"""Data for MMDetection: that they are there, pictures that are named when damaged, and the stream of the training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.dist import get_rank, get_world_size
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop, Runner

from pretrain.console import UserError
from pretrain.files import read_json
from transfer.datasets import READ_WHOLE_BELOW, preflight
from transfer.finetuning.stream import Stream
from transfer.mmdet.metrics import category_ids

STANDARD_FILES = {
    r"VOCdevkit/VOC(\d+)/ImageSets/Main/(\w+)\.txt": "voc_{}_{}",
    r"coco/annotations/instances_(train|val)2017\.json": "coco_2017_{}",
}


def check_files(cfg: Config) -> None:
    """Check that the data of the configuration are there, before anything is built.

    Raises:
        UserError: A data set is missing or not whole; for VOC and COCO with the expected tree and the remedy.
    """
    root = Path(cfg.data_root)
    for part in (cfg.train_dataloader.dataset, cfg.val_dataloader.dataset):
        for dataset in part.get("datasets", [part]):
            for pattern, name in STANDARD_FILES.items():
                if match := re.fullmatch(pattern, dataset.ann_file):
                    preflight([name.format(*match.groups())], root)
            path = Path(dataset.get("data_root") or root) / dataset.ann_file
            if not path.is_file():
                raise UserError(f"{path}: no such annotation file; --data-root is {root}, it must hold the rest of it")
            if dataset.type == "CocoDataset" and path.stat().st_size < READ_WHOLE_BELOW:
                classes = (dataset.get("metainfo") or CocoDataset.METAINFO)["classes"]
                category_ids(read_json(path)["categories"], classes, str(path))


def check_classes(dataset: Any, num_classes: int) -> None:
    """Refuse data whose classes are not those of the box head; mmdet would train on the boxes it recognises.

    Raises:
        UserError: The number of classes differs, or a class name does not occur in the annotations.
    """
    for part in getattr(dataset, "datasets", [dataset]):
        classes = part.metainfo["classes"]
        if len(classes) != num_classes:
            raise UserError(
                f"{part.ann_file}: {len(classes)} classes, model.roi_head.bbox_head.num_classes is {num_classes}"
            )
        known = getattr(part, "cat_ids", classes)  # CocoDataset: the categories that bear the classes' names
        if len(known) != len(classes):
            raise UserError(
                f"{part.ann_file}: only {len(known)} of the configuration's {len(classes)} class names occur in it; "
                "give the data set's own names as metainfo.classes"
            )


@TRANSFORMS.register_module()
class LoadCheckedImage(LoadImageFromFile):
    """mmcv's reader of pictures, which names the file that it cannot read or that its annotations do not describe."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Read `results["img_path"]` as (H, W, 3) uint8, BGR.

        Raises:
            UserError: The file is missing or damaged, or its size is not the annotations': boxes would lie elsewhere.
        """
        path, wanted = results["img_path"], (results.get("height"), results.get("width"))
        try:
            read: dict[str, Any] | None = super().transform(results)
        except (OSError, AssertionError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{path}: cannot be used ({reason}); fetch the data set again") from error
        found = read["ori_shape"] if read else wanted
        if None not in wanted and tuple(found) != wanted:
            height, width = wanted
            raise UserError(
                f"{path}: cannot be used (it is {found[1]} x {found[0]} pixels, its annotations are for {width} x "
                f"{height}); fetch the data set again"
            )
        return read


@LOOPS.register_module()
class ResumableLoop(IterBasedTrainLoop):
    """mmengine's loop over iterations, whose pictures depend on the seed and the iteration alone.

    After a resume mmengine's own reads and throws away all that was seen before; this one enters the stream there.
    """

    dataloader: Stream

    def __init__(self, runner: Runner, dataloader: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(runner, train_stream(dataloader, runner.seed), **settings)

    def run(self) -> Any:
        """Train from the iteration that the run has come to."""
        self.dataloader.start = self._iter
        self.dataloader_iterator = chain(repeat(None, self._iter), self.dataloader)  # what mmengine skips costs nothing
        return super().run()


def train_stream(dataloader: Mapping[str, Any], seed: int) -> Stream:
    """Return the stream of the pictures of a `train_dataloader`; their annotations are read.

    Args:
        dataloader: batch_size (of one process), num_workers, dataset, and further arguments of torch's DataLoader.
        seed: Of the order and of the augmentations.

    Raises:
        UserError: No picture is left after the data set's own filter.
    """
    settings = dict(dataloader)
    dataset = _build(settings.pop("dataset"))
    settings.pop("persistent_workers", None)  # the stream has no end at which they could be ended
    sizes = (dataset.get_data_info(index) for index in range(len(dataset)))
    return Stream(
        dataset,
        wide=[size["width"] > size["height"] for size in sizes],
        batch=settings.pop("batch_size"),
        seed=seed,
        rank=get_rank(),
        world_size=get_world_size(),
        collate=pseudo_collate,
        workers=settings.pop("num_workers", 0),
        settings=settings,
    )


def _build(settings: Mapping[str, Any]) -> Any:
    """Build a data set; mmengine has no word for one without pictures."""
    try:
        dataset = DATASETS.build(settings)
    except ValueError as error:
        if "need at least one array" not in str(error):
            raise
        parts = settings.get("datasets") or [settings]
        files = ", ".join(str(Path(part.get("data_root") or "", part["ann_file"])) for part in parts)
        raise UserError(
            f"{files}: not one picture with an object of the configuration's classes; give the data set's own names as "
            "metainfo.classes"
        ) from error
    dataset.full_init()
    return dataset
