"""The evaluators against Detectron2's own, and against figures that can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from voc_tree import write_voc

from transfer.compat import prepare_detectron2
from transfer.datasets import VOC_CLASSES

prepare_detectron2()

from detectron2.data import DatasetCatalog  # noqa: E402
from detectron2.evaluation import PascalVOCDetectionEvaluator  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402

from transfer.d2.data import register  # noqa: E402
from transfer.d2.evaluation import CocoEvaluator, VocEvaluator  # noqa: E402

CAT, DOG = VOC_CLASSES.index("cat"), VOC_CLASSES.index("dog")
NAMES = [f"2007_test_{index}" for index in range(4)]


def true_box(root: Path, name: str) -> list[int]:
    """Return x0, y0, x1, y1 counted from 0, x1 and y1 exclusive, as Detectron2 reads them from the 1-based XML."""
    text = (root / "VOCdevkit" / "VOC2007" / "Annotations" / f"{name}.xml").read_text()
    x0, y0, x1, y1 = (int(text.split(f"<{tag}>")[1].split("<")[0]) for tag in ("xmin", "ymin", "xmax", "ymax"))
    return [x0 - 1, y0 - 1, x1, y1]


def output(boxes: list[list[float]], scores: list[float], classes: list[int]) -> dict:
    instances = Instances((96, 128))
    instances.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.tensor(scores)
    instances.pred_classes = torch.tensor(classes)
    return {"instances": instances}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_voc(folder)
    return folder


def half_found(root: Path) -> list[tuple[dict, dict]]:
    """Two of four cats found exactly, with the best scores; one box far off; a dog where there is none."""
    found = []
    for index, name in enumerate(NAMES):
        box = true_box(root, name)
        if index < 2:
            detections = output([box], [0.9 - 0.1 * index], [CAT])
        elif index == 2:
            detections = output([[0, 0, 8, 8], box], [0.5, 0.95], [CAT, DOG])
        else:
            detections = output([], [], [])
        found.append(({"image_id": name}, detections))
    return found


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # classes without an object: 0 / 0
def test_voc_2007_metric(root: Path) -> None:
    """Recall stops at 0.5 with precision 1: six of the eleven points 0, 0.1, ..., 1 are reached, AP = 6/11."""
    register(["voc_2007_test"], root)
    evaluators = [VocEvaluator("voc_2007_test"), PascalVOCDetectionEvaluator("voc_2007_test")]
    results = []
    for evaluator in evaluators:
        evaluator.reset()
        for picture, detections in half_found(root):
            evaluator.process([picture], [detections])
        results.append(evaluator.evaluate()["bbox"])
    ours, theirs = results
    assert ours["AP50-cat"] == pytest.approx(100 * 6 / 11)
    assert ours["AP50-dog"] == 0
    assert ours["AP50"] == pytest.approx(100 * 6 / 11 / 20)
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs)


def write_coco(root: Path) -> None:
    """Write the VOC test pictures' boxes as COCO val2017; categories 1..20 in VOC's order."""
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(VOC_CLASSES)]
    images, annotations = [], []
    for index, name in enumerate(NAMES):
        x0, y0, x1, y1 = true_box(root, name)
        box = [x0, y0, x1 - x0, y1 - y0]
        images.append({"id": index, "file_name": f"{name}.jpg", "width": 128, "height": 96})
        annotations.append(
            {"id": index + 1, "image_id": index, "category_id": CAT + 1, "bbox": box, "area": box[2] * box[3]}
            | {"iscrowd": 0}
        )
    (root / "coco" / "annotations").mkdir(parents=True)
    (root / "coco" / "val2017").mkdir()
    for image in images:
        (root / "coco" / "val2017" / image["file_name"]).touch()
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "coco" / "annotations" / "instances_val2017.json").write_text(json.dumps(content))


def test_coco_metric(root: Path, tmp_path: Path) -> None:
    """Recall stops at 0.5 with precision 1: 51 of the 101 points are reached. Only "cat" has objects, so it is AP50."""
    write_coco(root)
    register(["coco_2017_val"], root)
    DatasetCatalog.get("coco_2017_val")  # reads the classes
    evaluator = CocoEvaluator("coco_2017_val", tasks=("bbox",), output_dir=str(tmp_path))
    evaluator.reset()
    for index, (_, detections) in enumerate(half_found(root)):
        evaluator.process([{"image_id": index}], [detections])
    results = evaluator.evaluate()["bbox"]
    assert results["AP50-cat"] == pytest.approx(100 * 51 / 101)
    assert results["AP50"] == results["AP"] == pytest.approx(100 * 51 / 101)
    assert results["AP50-dog"] != results["AP50-dog"]  # no such object: unknown, not 0

    evaluator.reset()
    for index in range(4):
        evaluator.process([{"image_id": index}], [output([], [], [])])
    assert evaluator.evaluate()["bbox"]["AP50"] == 0
