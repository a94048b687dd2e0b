"""Detectron2's training pictures: augmented by their position in the stream, named when damaged."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from voc_tree import write_voc

from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from transfer.d2.config import load_config
from transfer.d2.data import check_classes, register, train_stream

QUICKSTART = Path(__file__).parents[3] / "configs" / "quickstart" / "voc_r18_fpn.yaml"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_voc(folder)
    return folder


def quickstart(root: Path, *overrides: str) -> object:
    cfg = load_config(QUICKSTART, BackboneCard(arch="resnet18", classes=()), ["SEED", "5", *overrides])
    register((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST), root)
    return cfg


def test_augmentation_belongs_to_the_position(root: Path) -> None:
    cfg = quickstart(root, "SOLVER.IMS_PER_BATCH", "2")
    whole = list(islice(train_stream(cfg), 8))
    np.random.seed(99)  # whatever happens to the global generator meanwhile
    later = list(islice(replace(train_stream(cfg), start=3), 5))
    for batch, same in zip(whole[3:], later):
        for picture, again in zip(batch, same):
            assert picture["file_name"] == again["file_name"]
            assert torch.equal(picture["image"], again["image"])
            assert torch.equal(picture["instances"].gt_boxes.tensor, again["instances"].gt_boxes.tensor)
    first = {picture["file_name"]: picture["image"] for batch in whole[:5] for picture in batch}
    assert len(first) == 10
    flipped = [
        not torch.equal(picture["image"], first[picture["file_name"]]) for batch in whole[5:] for picture in batch
    ]
    assert any(flipped)


def test_workers_draw_the_same(root: Path) -> None:
    cfg = quickstart(root, "SOLVER.IMS_PER_BATCH", "2")
    alone = list(islice(train_stream(cfg), 3))
    cfg = quickstart(root, "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "2")
    for batch, same in zip(alone, islice(train_stream(cfg), 3)):
        assert all(torch.equal(picture["image"], again["image"]) for picture, again in zip(batch, same))


def test_red_rectangle_is_where_its_box_is(root: Path) -> None:
    """VOC's boxes count from 1, Detectron2's from 0; images come as RGB."""
    cfg = quickstart(root, "INPUT.RANDOM_FLIP", "none", "INPUT.MIN_SIZE_TRAIN", "(96,)")
    [picture, *_] = next(iter(train_stream(cfg)))
    x0, y0, x1, y1 = picture["instances"].gt_boxes.tensor[0].round().int().tolist()
    red = (picture["image"][0] > 140) & (picture["image"][1] < 110)
    rows, columns = red.nonzero(as_tuple=True)
    found = (columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1)
    assert np.abs(np.array(found) - (x0, y0, x1, y1)).max() <= 1  # JPEG blurs the edge


@pytest.mark.parametrize("workers", ["0", "1"])
def test_damaged_picture_is_named(tmp_path: Path, workers: str) -> None:
    write_voc(tmp_path)
    pictures = list((tmp_path / "VOCdevkit").glob("*/JPEGImages/*trainval*.jpg"))
    for path in pictures:
        path.write_bytes(path.read_bytes()[:300])
    cfg = quickstart(tmp_path, "DATALOADER.NUM_WORKERS", workers)
    with pytest.raises(
        UserError, match=r"20\d\d_trainval_\d\.jpg: cannot be used .* fetch the data set again$"
    ) as caught:
        next(iter(train_stream(cfg)))
    assert "\n" not in str(caught.value)  # a worker would put its traceback before it


def test_number_of_classes_is_checked(root: Path) -> None:
    cfg = quickstart(root, "MODEL.ROI_HEADS.NUM_CLASSES", "80")
    with pytest.raises(UserError, match=r"voc_2007_trainval has 20 classes, the config says 80"):
        check_classes(cfg)
