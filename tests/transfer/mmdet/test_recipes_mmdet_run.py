"""The recipes of configs/mmdet at work beside those of configs/d2: each iteration's rate, a picture's pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS
from PIL import Image
from torch import nn

from transfer.compat import prepare_detectron2

prepare_detectron2()

from detectron2.data import transforms as T  # noqa: E402
from detectron2.data.detection_utils import read_image  # noqa: E402
from detectron2.solver import build_lr_scheduler  # noqa: E402

import transfer.mmdet.finetune  # noqa: E402, F401  (registers MMDetection's modules and ours)
from transfer.d2.config import load_config as load_detectron2_config  # noqa: E402
from transfer.mmdet.config import load_config  # noqa: E402
from transfer.mmdet.parts import find_class  # noqa: E402

CONFIGS = Path(__file__).parents[3] / "configs"
RECIPES = {  # every schedule that there is
    "voc_r50_c4_24k": "faster-rcnn_r50-c4_voc0712",
    "coco_r50_fpn_1x": "faster-rcnn_r50-fpn_1x_coco",
    "coco_r50_c4_2x": "faster-rcnn_r50-c4_2x_coco",
}


def configs_of(name: str) -> tuple[Any, Any]:
    """Return Detectron2's config and MMDetection's."""
    theirs = load_detectron2_config(CONFIGS / "d2" / f"{name}.yaml", None, ["MODEL.DEVICE", "cpu"])
    return theirs, load_config(CONFIGS / "mmdet" / f"{RECIPES[name]}.py")


@pytest.mark.parametrize("name", RECIPES)
def test_learning_rate_of_every_iteration(name):
    theirs, ours = configs_of(name)
    first, second = (torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02) for _ in range(2))
    scheduler = build_lr_scheduler(theirs, first)
    schedulers = [PARAM_SCHEDULERS.build({"optimizer": second, **entry}) for entry in ours.param_scheduler]
    expected, found = [], []
    first.step()
    second.step()
    for _ in range(theirs.SOLVER.MAX_ITER):
        expected.append(first.param_groups[0]["lr"])
        found.append(second.param_groups[0]["lr"])
        scheduler.step()
        for entry in schedulers:
            entry.step()
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    warm = theirs.SOLVER.WARMUP_ITERS
    assert expected[0] == pytest.approx(2e-5)
    assert expected[warm // 2] == pytest.approx(0.02 * 0.5005)
    assert expected[warm] == pytest.approx(0.02)
    assert expected[-1] == pytest.approx(0.0002)


def build(step: dict[str, Any]) -> Any:
    settings = dict(step)
    return find_class(settings.pop("type"))(**settings)


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (640, 480), (1600, 1200), (500, 140)])
@pytest.mark.parametrize("name", ["voc_r50_c4_24k", "coco_r50_fpn_1x"])
def test_a_picture_is_the_same_in_every_size(name, size, tmp_path):
    """From the file on: read, resized and cut off at the longer side, to the last bit, with the boxes on it."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8))
    noise.resize(size, Image.Resampling.BICUBIC).save(tmp_path / "1.jpg", quality=90)
    box = np.array([[10.0, 20.0, 110.0, 95.0]])
    theirs, ours = configs_of(name)
    sets = ours.train_dataloader.dataset.get("datasets", [ours.train_dataloader.dataset])
    read, _, resize, *_ = sets[0].pipeline
    _, once, *_ = ours.val_dataloader.dataset.pipeline
    sides = (min(theirs.INPUT.MIN_SIZE_TRAIN), 672, theirs.INPUT.MIN_SIZE_TEST)
    for side in sides:
        picture = T.AugInput(read_image(str(tmp_path / "1.jpg"), theirs.INPUT.FORMAT), boxes=box.copy())
        T.ResizeShortestEdge([side], theirs.INPUT.MAX_SIZE_TRAIN, "choice")(picture)
        steps = [once] if side == theirs.INPUT.MIN_SIZE_TEST else []
        steps.append({**resize, "scales": [scale for scale in resize.scales if scale[1] == side]})
        for step in steps:
            found = build(read)({"img_path": str(tmp_path / "1.jpg"), "img_id": 1})
            found["gt_bboxes"] = box.copy()
            found = build(step)(found)
            assert np.array_equal(found["img"][..., ::-1], picture.image), (step, side)
            np.testing.assert_allclose(found["gt_bboxes"], picture.boxes, rtol=1e-6)
