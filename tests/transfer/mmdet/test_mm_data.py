"""MMDetection's training pictures: the stream, where their boxes lie, and damage that is named."""

import json
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image

import transfer.mmdet.finetune  # noqa: F401  (registers MMDetection's modules and ours)
from pretrain.console import UserError
from transfer.mmdet.config import load_config, set_data_root
from transfer.mmdet.data import check_files, train_stream

CONFIGS = Path(__file__).parents[3] / "configs"
QUICK = CONFIGS / "quickstart" / "coco_r18_fpn.py"
VOC = CONFIGS / "mmdet" / "faster-rcnn_r50-c4_voc0712.py"


def stream_of(root, path=QUICK, options=(), seed=5):
    cfg = load_config(path, options=list(options))
    set_data_root(cfg, root)
    with DefaultScope.overwrite_default_scope("mmdet"):
        return train_stream(cfg.train_dataloader, seed)


def pictures(batches):
    """Return [(file, flipped, picture, boxes)]."""
    return [
        (Path(sample.img_path).name, sample.flip, picture, sample.gt_instances.bboxes.tensor)
        for batch in batches
        for picture, sample in zip(batch["inputs"], batch["data_samples"])
    ]


def same(one, other):
    return one[:2] == other[:2] and torch.equal(one[2], other[2]) and torch.equal(one[3], other[3])


@pytest.mark.parametrize("workers", [0, 2])
def test_entered_later_the_stream_goes_on_as_it_would_have(data_root, workers):
    stream = stream_of(data_root, options=["train_dataloader.num_workers=0"])
    assert (len(stream), stream.batch) == (4, 2)
    whole = pictures(islice(stream, 8))
    assert {name for name, *_ in whole[:8]} == {name for name, *_ in whole[8:]} == {f"{n:06d}.jpg" for n in range(8)}
    np.random.seed(99)  # whatever happens to the global generator meanwhile
    later = pictures(islice(replace(stream, start=3, workers=workers), 5))
    assert all(same(one, other) for one, other in zip(whole[6:], later))
    assert {flipped for _, flipped, *_ in whole} == {True, False}
    other = pictures(islice(stream_of(data_root, options=["train_dataloader.num_workers=0"], seed=6), 8))
    assert [name for name, *_ in other] != [name for name, *_ in whole]


def test_both_years_of_voc_are_read(data_root):
    options = ["train_dataloader.num_workers=0"]
    options += [f"train_dataloader.dataset.datasets.{n}.pipeline.2.scales=[(160,96)]" for n in (0, 1)]
    whole = pictures(islice(stream_of(data_root, VOC, options), 4))
    assert {name for name, *_ in whole} == {f"{n:06d}.jpg" for n in range(8)}


def test_squares_are_where_their_boxes_are(data_root):
    """Pictures are BGR until the model's data_preprocessor; VOC counts pixels from 1, MMDetection from 0."""
    options = ["train_dataloader.num_workers=0", "train_dataloader.dataset.datasets.0.pipeline.3.prob=0.0"]
    options += [f"train_dataloader.dataset.datasets.{n}.pipeline.2.scales=[(96,96)]" for n in (0, 1)]
    stream = stream_of(data_root, VOC, [*options, "train_dataloader.dataset.datasets.1.pipeline.3.prob=0.0"])
    found = 0
    for batch in islice(stream, 4):
        for picture, sample in zip(batch["inputs"], batch["data_samples"]):
            for box, label in zip(sample.gt_instances.bboxes.tensor, sample.gt_instances.labels):
                channel = {0: 2, 7: 1, 14: 0}[int(label)]  # red, green, blue squares
                bright = (picture[channel] > 180) & (picture[(channel + 1) % 3] < 60)
                x0, y0, x1, y1 = box.round().int().tolist()
                inside = torch.zeros_like(bright)
                inside[y0:y1, x0:x1] = True
                assert bright[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].float().mean() > 0.95
                assert not bright[max(0, y0 - 3) : y0 - 1, x0:x1].any()  # JPEG blurs the edge itself
                found += 1
    assert found == 16


@pytest.fixture
def own_root(data_root, tmp_path):
    """Return a copy of the data that may be damaged."""
    return Path(shutil.copytree(data_root, tmp_path / "data"))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(b"no picture"), "failed to load image"),
        (lambda path: Image.new("RGB", (50, 40)).save(path), "it is 50 x 40 pixels, its annotations are for 96 x 96"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named(own_root, damage, told, workers):
    for number in range(8):
        damage(own_root / "coco" / "train2017" / f"{number:06d}.jpg")
    stream = stream_of(own_root, options=[f"train_dataloader.num_workers={workers}"])
    told = rf"^\S*coco/train2017/00000\d\.jpg: cannot be used \(.*{told}.*\); fetch the data set again$"
    with pytest.raises(UserError, match=told):
        next(iter(stream))


def test_annotations_without_objects_of_the_classes_are_named(own_root):
    path = own_root / "coco" / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    for category in content["categories"]:
        category["name"] = category["name"].upper()
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"instances_train2017\.json: not one picture with an object of the config"):
        stream_of(own_root)


def test_wide_pictures_are_batched_apart(own_root):
    path = own_root / "coco" / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    for image in content["images"][:3]:
        image["width"] = 97
    path.write_text(json.dumps(content))
    assert stream_of(own_root).wide == [True] * 3 + [False] * 5


def test_missing_files_are_named_before_anything_is_built(tmp_path):
    for path, told in ((QUICK, "instances_train2017.json is not there"), (VOC, "VOC2007")):
        cfg = load_config(path)
        set_data_root(cfg, tmp_path)
        with pytest.raises(UserError, match=told):
            check_files(cfg)
