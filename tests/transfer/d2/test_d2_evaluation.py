"""The evaluators against Detectron2's own, and against figures that can be worked out by hand."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_cases import hard_case
from pycocotools import mask as masks
from torch import distributed
from voc_tree import write_voc

from pretrain.console import UserError
from transfer.compat import prepare_detectron2
from transfer.datasets import VOC_CLASSES

prepare_detectron2()

from detectron2.data import DatasetCatalog, MetadataCatalog  # noqa: E402
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator  # noqa: E402
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
    results = evaluator.evaluate()["bbox"]
    assert results["AP"] == results["AP50"] == results["AP75"] == results["AP50-cat"] == 0


CONTENT, DETECTIONS = hard_case()


def register_hard_case(folder: Path) -> str:
    """Register `folder`/instances.json as Detectron2's reader does, labels 0, 1, ... by rising category id."""
    name = f"hard_case_of_{folder.name}"
    numbers = [category["id"] for category in CONTENT["categories"]]
    MetadataCatalog.get(name).set(
        json_file=str(folder / "instances.json"),
        thing_dataset_id_to_contiguous_id={number: label for label, number in enumerate(numbers)},
        thing_classes=[category["name"] for category in CONTENT["categories"]],
    )
    return name


@pytest.fixture
def hard(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "instances.json").write_text(json.dumps(CONTENT))
    name = register_hard_case(tmp_path)
    yield name
    MetadataCatalog.remove(name)


def found_by_a_detector(with_masks: bool) -> list[tuple[dict, dict]]:
    """Return what Detectron2's test loader and detector would hand on, image by image."""
    numbers = [category["id"] for category in CONTENT["categories"]]
    by_image = defaultdict(list)
    for one in DETECTIONS:
        by_image[one["image_id"]].append(one)
    found = []
    for image in CONTENT["images"]:
        here = by_image[image["id"]]
        boxes = np.array([one["bbox"] for one in here]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [numbers.index(one["category_id"]) for one in here]
        detections = output(boxes.tolist(), [one["score"] for one in here], labels)
        if with_masks and here:
            pixels = masks.decode([one["segmentation"] for one in here])
            detections["instances"].pred_masks = torch.from_numpy(pixels).permute(2, 0, 1).bool()
        found.append(({"image_id": image["id"]}, detections))
    return found


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")  # pycocotools, NumPy 2
def test_coco_figures_are_those_of_detectron2_by_pycocotools(hard: str, tmp_path: Path) -> None:
    tasks = ("bbox", "segm")
    ours = CocoEvaluator(hard, tasks, str(tmp_path / "inference"))
    theirs = COCOEvaluator(hard, tasks, output_dir=str(tmp_path / "theirs"), use_fast_impl=False)
    ours.reset()
    for image, detections in found_by_a_detector(with_masks=True):
        ours.process([image], [detections])
    theirs._predictions = copy.deepcopy(ours._predictions)
    results, expected = ours.evaluate(), theirs.evaluate()
    assert set(results) == set(expected) == set(tasks)
    for task in tasks:
        shared = {name: results[task][name] for name in expected[task]}
        assert shared == pytest.approx(expected[task], rel=0, abs=1e-10, nan_ok=True)  # percent
        assert len(shared) == 6 + 80
        added = set(results[task]) - set(shared)
        assert added == {f"AP50-{category['name']}" for category in CONTENT["categories"]}
        assert np.nanmean([results[task][name] for name in added]) == pytest.approx(expected[task]["AP50"])
        assert {type(value) for value in results[task].values()} == {float}
    saved, reference = (tmp_path / folder / "coco_instances_results.json" for folder in ("inference", "theirs"))
    assert json.loads(saved.read_text()) == json.loads(reference.read_text())


def test_more_detections_an_image_if_asked(hard: str, tmp_path: Path) -> None:
    results = []
    for kind, settings in ((CocoEvaluator, {}), (COCOEvaluator, {"use_fast_impl": False})):
        evaluator = kind(hard, ("bbox",), output_dir=str(tmp_path), max_dets_per_image=300, **settings)
        evaluator.reset()
        for image, detections in found_by_a_detector(with_masks=False):
            evaluator.process([image], [detections])
        results.append(evaluator.evaluate()["bbox"])
    ours, theirs = results
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=0, abs=1e-10, nan_ok=True)


def test_coco_annotations_of_other_images_are_one_line(hard: str, tmp_path: Path) -> None:
    evaluator = CocoEvaluator(hard, ("bbox",), str(tmp_path / "inference"))
    evaluator.reset()
    evaluator.process([{"image_id": 123456}], [output([[1, 1, 9, 9]], [0.5], [0])])
    with pytest.raises(UserError, match=r"instances\.json: holds no image 123456, for which there are detections"):
        evaluator.evaluate()


def evaluate_as_rank(rank: int, folder: Path) -> None:
    """Evaluate a share of the pictures, as Detectron2 hands them out, and write down what comes back.

    `folder` holds the pictures and their annotations already: the ranks only read them, each at its own moment.
    """
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    coco = CocoEvaluator(register_hard_case(folder), ("bbox",), str(folder / f"inference{rank}"))
    register(["voc_2007_test"], folder)
    voc = VocEvaluator("voc_2007_test")
    results = []
    for evaluator, pictures in ((coco, found_by_a_detector(with_masks=False)), (voc, half_found(folder)[::-1])):
        evaluator.reset()
        half = len(pictures) // 2
        for picture, detections in pictures[half:] if rank else pictures[:half]:
            evaluator.process([picture], [detections])
        results.append(evaluator.evaluate() or {})
    (folder / f"rank{rank}.json").write_text(json.dumps(results))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_of_two_ranks_the_first_evaluates(hard: str, tmp_path: Path) -> None:
    write_voc(tmp_path)
    torch.multiprocessing.spawn(evaluate_as_rank, (tmp_path,), nprocs=2)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert second == [{}, {}]
    assert not (tmp_path / "inference1").exists()
    alone = CocoEvaluator(hard, ("bbox",), str(tmp_path / "alone"))
    alone.reset()
    for image, detections in found_by_a_detector(with_masks=False):
        alone.process([image], [detections])
    assert first[0]["bbox"] == pytest.approx(alone.evaluate()["bbox"], rel=0, abs=0, nan_ok=True)
    assert first[1]["bbox"]["AP50-cat"] == pytest.approx(100 * 6 / 11)
