"""Which pictures, objects and boxes Detectron2 and MMDetection make of the same files, both by our recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mmcv
import pytest
import torch
from detector_pairs import mmdet_config, picture
from detectron2.data.build import filter_images_with_only_crowd_annotations
from detectron2.data.datasets import load_coco_json
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.data.transforms import ResizeShortestEdge
from mmdet.registry import DATASETS, TASK_UTILS, TRANSFORMS
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from voc_tree import ANNOTATION, write_voc

from transfer.datasets import VOC_CLASSES
from transfer.mmdet.config import set_data_root

LONGEST = 1333  # pixels, both recipes


def training_set(head: str, root: Path, **changed: Any) -> Any:
    """Return MMDetection's training data set of our recipe (the first of VOC's two), its files under `root`."""
    cfg = mmdet_config("resnet50", head)
    set_data_root(cfg, root)
    dataset = cfg.train_dataloader.dataset
    with DefaultScope.overwrite_default_scope("mmdet"):
        return DATASETS.build({**dataset.get("datasets", [dataset])[0], "pipeline": [], **changed})


def test_voc_boxes_and_difficult_objects(tmp_path: Path) -> None:
    """MMDetection's boxes end one pixel earlier, at xmax - 1 and ymax - 1, and it sets difficult objects aside."""
    write_voc(tmp_path)
    folder = tmp_path / "VOCdevkit" / "VOC2007"
    name = "2007_trainval_0"
    easy, rest = ANNOTATION.format(name=name, x0=11, y0=21, x1=58, y1=60).split("</object>")
    hard = easy[easy.index("<object>") :].replace("<difficult>0", "<difficult>1")
    (folder / "Annotations" / f"{name}.xml").write_text(f"{easy}</object>{hard}</object>{rest}")
    expected = load_voc_instances(str(folder), "trainval", VOC_CLASSES)[0]
    found = training_set("c4", tmp_path).get_data_info(0)
    assert found["img_path"].endswith(f"{name}.jpg")
    assert [entry["bbox"] for entry in expected["annotations"]] == 2 * [[10.0, 20.0, 58.0, 60.0]]
    assert [entry["bbox"] for entry in found["instances"]] == 2 * [[10, 20, 57, 59]]
    assert [entry["ignore_flag"] for entry in found["instances"]] == [0, 1]
    assert {entry["category_id"] for entry in expected["annotations"]} == {7}
    assert {entry["bbox_label"] for entry in found["instances"]} == {7}


@pytest.mark.parametrize("part", ["rpn", "rcnn"])
def test_what_lies_on_an_object_set_aside_is_background_in_training(part: str) -> None:
    """In both frameworks: Detectron2 forgets a crowd before training, MMDetection's assigner has no ignore_iof_thr."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        assigner = TASK_UTILS.build(mmdet_config("resnet50", "c4").model.train_cfg[part].assigner)
    thing, crowd = torch.tensor([[0.0, 0.0, 50.0, 50.0]]), torch.tensor([[60.0, 60.0, 120.0, 120.0]])
    found = assigner.assign(
        InstanceData(priors=torch.cat([thing, crowd])),
        InstanceData(bboxes=thing, labels=torch.tensor([3])),
        InstanceData(bboxes=crowd, labels=torch.tensor([3])),
    )
    assert found.gt_inds.tolist() == [1, 0]


def test_coco_pictures_and_objects_that_one_leaves_out(tmp_path: Path) -> None:
    """Detectron2 drops pictures with crowds alone, MMDetection objects below a pixel, and small pictures if told to."""
    thing = {"iscrowd": 0, "area": 300.0, "category_id": 1, "bbox": [5.0, 6.0, 20.0, 15.0]}
    objects = {
        1: [thing],
        2: [{**thing, "iscrowd": 1}],
        3: [],
        4: [thing],
        5: [thing, {**thing, "bbox": [30.0, 6.0, 0.5, 20.0], "area": 10.0}],
    }
    content = {
        "info": {},
        "images": [
            {"id": number, "file_name": f"{number}.jpg", "height": 24 if number == 4 else 64, "width": 64}
            for number in objects
        ],
        "annotations": [
            {**entry, "id": 10 * number + index, "image_id": number}
            for number, entries in objects.items()
            for index, entry in enumerate(entries)
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    path = tmp_path / "coco" / "annotations" / "instances_train2017.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    pictures = load_coco_json(str(path), str(tmp_path))
    expected = {entry["image_id"]: entry for entry in filter_images_with_only_crowd_annotations(pictures)}
    assert list(expected) == [1, 4, 5]
    for least, kept in ((32, [1, 2, 5]), (0, [1, 2, 4, 5])):
        ours = training_set("fpn", tmp_path, filter_cfg={"filter_empty_gt": True, "min_size": least})
        found = {entry["img_id"]: entry for entry in map(ours.get_data_info, range(len(ours)))}
        assert list(found) == kept
    assert [entry["ignore_flag"] for entry in found[2]["instances"]] == [1]
    assert [len(entry["annotations"]) for entry in expected.values()] == [1, 1, 2]
    assert len(found[5]["instances"]) == 1
    assert expected[1]["annotations"][0]["bbox"] == [5.0, 6.0, 20.0, 15.0]  # x, y, width, height
    assert found[1]["instances"][0]["bbox"] == [5.0, 6.0, 25.0, 21.0]  # x0, y0, x1, y1: the same, no pixel off


@pytest.mark.parametrize(("side", "shape"), [(200, (200, 267, 3)), (64, (64, 85, 3))])
def test_resized_pictures(side: int, shape: tuple[int, int, int]) -> None:
    """MMDetection's Resize gives Detectron2's picture with backend="pillow".

    OpenCV's, its default, is one grey level off where a picture is enlarged; made smaller, it is not smoothed.
    """
    image = picture(120, 160).permute(1, 2, 0).numpy()
    transform = ResizeShortestEdge([side], LONGEST, "choice").get_transform(image)
    expected = transform.apply_image(image.copy()).astype(int)
    made = {}
    with DefaultScope.overwrite_default_scope("mmdet"):
        for backend in ("pillow", "cv2"):
            step = {"type": "Resize", "scale": (LONGEST, side), "keep_ratio": True, "backend": backend}
            made[backend] = TRANSFORMS.build(step)({"img": image})["img"].astype(int)
    assert expected.shape == made["pillow"].shape == made["cv2"].shape == shape
    assert (made["pillow"] == expected).all()
    difference = abs(made["cv2"] - expected)
    assert difference.max() == 1 if side > 120 else difference.mean() > 3


def test_sizes_of_resized_pictures() -> None:
    """Where the longer side reaches its limit the order of two multiplications shows: 1 pixel, in 1 of 10,000 sizes."""
    sizes = [
        (side, height, width) for side in (480, 800) for height in range(200, 641, 3) for width in range(200, 641, 3)
    ]
    differing = []
    for side, height, width in sizes:
        theirs = ResizeShortestEdge.get_output_shape(height, width, side, LONGEST)
        ours = mmcv.rescale_size((width, height), (LONGEST, side))[::-1]
        differing += [max(abs(a - b) for a, b in zip(theirs, ours))] if theirs != ours else []
    assert set(differing) <= {1}
    assert len(differing) < 1e-3 * len(sizes)
    assert ResizeShortestEdge.get_output_shape(232, 688, 640, LONGEST) == (449, 1333)
    assert mmcv.rescale_size((688, 232), (LONGEST, 640)) == (1333, 450)
