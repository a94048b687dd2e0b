"""AP: values that the definition fixes, and equality with pycocotools and with mmdet's eval_map."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing.dummy
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coco_cases import hard_case
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pretrain.console import UserError
from transfer.compat import prepare_mmcv
from transfer.voc_eval import THRESHOLDS

prepare_mmcv()

from mmdet.datasets import CocoDataset  # noqa: E402
from mmdet.evaluation.functional import eval_map, mean_ap  # noqa: E402
from mmdet.evaluation.metrics import VOCMetric  # noqa: E402

from transfer.mmdet.metrics import CocoBoxAP, VocBoxAP  # noqa: E402

Sample = dict[str, Any]
BOX = [10.0, 10.0, 59.0, 59.0]  # 50 x 50 pixels by VOC's counting
CLASSES = ("cat", "dog")
LABELS = ("cat", "dog", "cow", "bus", "car", "cup")
WITHOUT_OBJECTS, DIFFICULT_ONLY, NEVER_FOUND = 2, 3, 4  # of LABELS


def instances(boxes: Any, labels: Any, scores: Any = None) -> dict[str, torch.Tensor]:
    found = {"bboxes": torch.tensor(np.array(boxes), dtype=torch.float32).view(-1, 4)}
    found["labels"] = torch.tensor(np.array(labels), dtype=torch.long)
    return found if scores is None else found | {"scores": torch.tensor(np.array(scores), dtype=torch.float32)}


def voc_sample(truth: Any, found: Any) -> Sample:
    return {
        "img_id": "000001",
        "gt_instances": instances(truth, [0] * len(truth)),
        "ignored_instances": instances([], []),
        "pred_instances": instances(found, [0] * len(found), np.linspace(0.9, 0.5, len(found))),
    }


def voc_ap(samples: list[Sample], classes: tuple[str, ...] = CLASSES) -> dict[str, float]:
    metric = VocBoxAP()
    metric.dataset_meta = {"classes": classes, "dataset_type": "VOC2007"}
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def test_voc_perfect_detections_score_100_and_a_class_without_objects_does_not_count() -> None:
    values = voc_ap([voc_sample([BOX], [BOX])])
    assert (values["voc/AP"], values["voc/AP50"], values["voc/AP75"]) == pytest.approx((100, 100, 100))
    assert values["voc/class/cat"] == pytest.approx(100)
    assert np.isnan(values["voc/class/dog"])


def test_voc_half_the_objects_found_is_six_elevenths() -> None:
    # Precision 1 up to recall 0.5, so at 0, 0.1, ..., 0.5 of the eleven points.
    values = voc_ap([voc_sample([BOX], [BOX]), voc_sample([BOX], [])])
    assert values["voc/AP50"] == pytest.approx(100 * 6 / 11)


def test_voc_boxes_count_the_last_pixel() -> None:
    # 36 of 50 columns: IoU 0.72 by VOC's counting, above five of the ten thresholds; 35/49 = 0.714 without it.
    values = voc_ap([voc_sample([BOX], [[10.0, 10.0, 45.0, 59.0]])])
    assert values["voc/AP"] == pytest.approx(50)
    assert values["voc/AP75"] == 0
    # 14 of 20 rows: exactly at the threshold 0.7 with the last pixel, 13/19 = 0.684 without it.
    values = voc_ap([voc_sample([[0.0, 0.0, 19.0, 19.0]], [[0.0, 0.0, 19.0, 13.0]])])
    assert values["voc/AP"] == pytest.approx(50)


def test_voc_without_a_single_detection_is_zero() -> None:
    values = voc_ap([voc_sample([BOX], []), voc_sample([], [])])
    assert (values["voc/AP"], values["voc/AP50"], values["voc/class/cat"]) == (0, 0, 0)
    assert np.isnan(values["voc/class/dog"])


def test_voc_without_a_single_object_is_no_number() -> None:
    assert np.isnan(list(voc_ap([voc_sample([], [BOX])]).values())).all()


def hard_voc(seed: int, everywhere: bool) -> list[Sample]:
    """Return 120 images: difficult objects, detections twice over, equal scores, overlaps just at each threshold.

    Args:
        seed: Of all that is drawn.
        everywhere: Whether every class has an object that is not difficult.
    """
    rng = np.random.default_rng(seed)
    there = [label for label in range(len(LABELS)) if everywhere or label != WITHOUT_OBJECTS]
    samples = []
    for number in range(120):
        truth = rng.integers(0, 200, (0 if number % 9 == 0 else rng.integers(1, 6), 4)).astype(float)
        truth[:, 2:] += truth[:, :2]
        labels = rng.choice(there, len(truth))
        found, kinds = [], []
        for box, label in zip(truth, labels):
            copies = 60 if number % 10 == 0 else rng.integers(1, 4)
            found += [box + rng.normal(0, 15 * rng.random(), 4) * (rng.random() < 0.8) for _ in range(copies)]
            kinds += [label if rng.random() < 0.85 else WITHOUT_OBJECTS for _ in range(copies)]
        truth = np.concatenate(
            (truth, [[300, 300, 319, 319]])
        )  # 20 x 20 pixels, of which a detection has 10 to 19 rows
        labels = np.append(labels, 5)
        found += [[300, 300, 319, 309 + number % 10], *rng.uniform(0, 300, (3, 4)).cumsum(axis=1)]
        kinds += [5, *rng.integers(6, size=3)]
        hard = (rng.random(len(labels)) < 0.25) | ((labels == DIFFICULT_ONLY) & (not everywhere))
        keep = np.array([kind != NEVER_FOUND and number % 7 != 0 for kind in kinds])
        scores = rng.random(len(found)).round(1)
        samples.append(
            {
                "img_id": f"{number:06d}",
                "gt_instances": instances(truth[~hard], labels[~hard]),
                "ignored_instances": instances(truth[hard], labels[hard]),
                "pred_instances": instances(np.array(found)[keep], np.array(kinds)[keep], scores[keep]),
            }
        )
    return samples


@pytest.mark.parametrize(("seed", "everywhere"), [(0, False), (1, False), (2, False), (3, True)])
def test_voc_equals_eval_map_to_the_last_bit(seed: int, everywhere: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = hard_voc(seed, everywhere)
    for sample in samples if seed == 2 else []:  # a detector in half precision
        for key in ("bboxes", "scores"):
            sample["pred_instances"][key] = sample["pred_instances"][key].half()
    ours = voc_ap(samples, LABELS)
    reference = VOCMetric()
    reference.dataset_meta = {"classes": LABELS}
    reference.process({}, samples)
    truth, found = zip(*reference.results)
    monkeypatch.setattr(mean_ap, "Pool", multiprocessing.dummy.Pool)  # threads
    settings = {"use_legacy_coordinate": True, "eval_mode": "11points", "logger": "silent", "nproc": 1}
    results = [eval_map(found, truth, iou_thr=percent / 100, **settings)[1] for percent in THRESHOLDS]
    table = np.array([[float(entry["ap"]) for entry in classes] for classes in results])
    there = [entry["num_gts"] > 0 for entry in results[0]]
    assert there == [True, True, everywhere, everywhere, True, True]
    assert [entry["num_dets"] > 100 for entry in results[0]] == [True, True, True, True, False, True]
    for label, name in enumerate(LABELS):
        if there[label]:
            assert ours[f"voc/class50/{name}"] == 100 * table[0, label]
            assert ours[f"voc/class/{name}"] == 100 * table[:, label].mean()
        else:
            assert np.isnan([ours[f"voc/class50/{name}"], ours[f"voc/class/{name}"]]).all()
    counted = table[:, there]
    assert ours["voc/AP50"] == 100 * counted[0].mean()
    assert ours["voc/AP75"] == 100 * counted[5].mean()
    assert ours["voc/AP"] == 100 * counted.mean()
    assert ours["voc/class/bus"] != 0
    assert 5 < ours["voc/AP75"] < ours["voc/AP50"] < 60


CONTENT, DETECTIONS = hard_case()


@pytest.fixture
def annotations(tmp_path: Path) -> Path:
    """Return the hard case's annotations, the categories in no order of their ids."""
    path = tmp_path / "instances.json"
    categories = [CONTENT["categories"][k] for k in np.random.default_rng(1).permutation(len(CONTENT["categories"]))]
    path.write_text(json.dumps({**CONTENT, "categories": categories}))
    return path


def coco_metric(path: Path, classes: tuple[str, ...] | None = None) -> CocoBoxAP:
    """Return the metric for an annotation file, by default for all of its classes in its order."""
    metric = CocoBoxAP(str(path))
    metric.dataset_meta = {"classes": classes or [one["name"] for one in json.loads(path.read_text())["categories"]]}
    return metric


def coco_samples(metric: CocoBoxAP, images: list[int], detections: list[dict[str, Any]]) -> list[Sample]:
    """Return the detections of images as MMDetection's samples have them."""
    found: dict[int, list[dict[str, Any]]] = {image: [] for image in images}
    for one in detections:
        if one["image_id"] in found:
            found[one["image_id"]].append(one)
    boxes = {image: np.array([one["bbox"] for one in ours]).reshape(-1, 4) for image, ours in found.items()}
    label = {f"class {one['id']}": one["id"] for one in CONTENT["categories"]}
    labels = {label[name]: index for index, name in enumerate(metric.dataset_meta["classes"])}
    return [
        {
            "img_id": image,
            "pred_instances": instances(
                np.concatenate((boxes[image][:, :2], boxes[image][:, :2] + boxes[image][:, 2:]), axis=1),
                [labels[one["category_id"]] for one in ours],
                [one["score"] for one in ours],
            ),
        }
        for image, ours in found.items()
    ]


def pycocotools_figures(path: Path, metric: CocoBoxAP, samples: list[Sample]) -> dict[str, float]:
    """Return what pycocotools makes of the samples, in percent, NaN where it says -1."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        category = [truth.getCatIds(catNms=[name])[0] for name in metric.dataset_meta["classes"]]
        detections = [
            {"image_id": sample["img_id"], "category_id": category[int(label)], "score": float(score)}
            | {"bbox": [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]}
            for sample in samples
            for box, score, label in zip(
                *(sample["pred_instances"][key].double() for key in ("bboxes", "scores", "labels"))
            )
        ]
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.params.imgIds = [sample["img_id"] for sample in samples]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = dict(zip(("AP", "AP50", "AP75", "APs", "APm", "APl"), evaluation.stats))
    for name, number in zip(metric.dataset_meta["classes"], category):
        precision = evaluation.eval["precision"][:, :, sorted(category).index(number), 0, -1]
        figures |= {f"class/{name}": precision.mean(), f"class50/{name}": precision[0].mean()}
    return {f"coco/{key}": 100 * value if value >= 0 else np.nan for key, value in figures.items()}


@pytest.mark.parametrize("left_out", [0, 90])
def test_coco_equals_pycocotools(annotations: Path, left_out: int) -> None:
    """Crowds, equal scores, boxes without area, over 100 detections of a class in an image: see coco_cases."""
    metric = coco_metric(annotations)
    samples = coco_samples(metric, [image["id"] for image in CONTENT["images"]][left_out:], DETECTIONS)
    of_image = [Counter(sample["pred_instances"]["labels"].tolist()).values() for sample in samples]
    assert min(map(len, of_image)) == 0
    assert left_out or max(map(max, filter(None, of_image))) > 100
    metric.process({}, samples)
    wanted = pycocotools_figures(annotations, metric, samples)
    assert metric.evaluate(len(samples)) == pytest.approx(wanted, rel=0, abs=1e-9, nan_ok=True)
    assert 5 < wanted["coco/APs"] < 95
    assert 5 < np.isnan(list(wanted.values())).sum() < 40


def test_coco_without_a_single_detection_is_zero_where_there_are_objects(annotations: Path) -> None:
    metric = coco_metric(annotations)
    samples = coco_samples(metric, [image["id"] for image in CONTENT["images"]], [])
    metric.process({}, samples)
    values = metric.evaluate(len(samples))
    assert [values[f"coco/{key}"] for key in ("AP", "AP50", "AP75", "APs", "APm", "APl")] == [0.0] * 6
    there = {f"class {one['category_id']}" for one in CONTENT["annotations"] if not one["iscrowd"]}
    for name in metric.dataset_meta["classes"]:
        for key in ("class", "class50"):
            value = values[f"coco/{key}/{name}"]
            assert value == 0 if name in there else np.isnan(value)


@pytest.fixture
def two_categories(tmp_path: Path) -> Path:
    """Return annotations with the category dog, 20, before cat, 10."""
    path = tmp_path / "two.json"
    image = {"id": 1, "width": 99, "height": 99, "file_name": "1.jpg"}
    dog = {"id": 1, "image_id": 1, "category_id": 20, "bbox": [1, 1, 50, 50], "area": 2500, "iscrowd": 0}
    categories = [{"id": 20, "name": "dog"}, {"id": 10, "name": "cat"}]
    path.write_text(json.dumps({"images": [image], "annotations": [dog], "categories": categories}))
    return path


def test_mmdet_labels_in_the_order_of_the_file(two_categories: Path) -> None:
    """Which is why another order of the classes is refused."""
    settings = {"data_prefix": {"img": ""}, "pipeline": [], "test_mode": True}
    dataset = CocoDataset(ann_file=str(two_categories), metainfo={"classes": ("cat", "dog")}, **settings)
    assert dataset.metainfo["classes"] == ("cat", "dog")
    [found] = dataset.get_data_info(0)["instances"]
    assert found["bbox_label"] == 0, "a dog"


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            ("dog", "cats", "cow"),
            r"two\.json: no category 'cats' \(2 of the 3 configured classes .*\); did you mean 'cat'\?",
        ),
        (("cat", "dog"), r"two\.json: its categories come as dog, cat, the configuration's classes as cat, dog, and"),
    ],
)
def test_classes_that_are_not_the_annotations_are_one_line(
    two_categories: Path, classes: tuple[str, ...], message: str
) -> None:
    metric = coco_metric(two_categories, classes)
    metric.process({}, [{"img_id": 1, "pred_instances": instances([BOX], [0], [0.5])}])
    with pytest.raises(UserError, match=message):
        metric.evaluate(1)


@pytest.mark.parametrize("classes", [("dog", "cat"), ("dog",)])
def test_a_class_is_found_by_its_name(two_categories: Path, classes: tuple[str, ...]) -> None:
    metric = coco_metric(two_categories, classes)
    metric.process({}, [{"img_id": 1, "pred_instances": instances([[1, 1, 51, 51]], [0], [0.5])}])
    assert metric.evaluate(1)["coco/class/dog"] == pytest.approx(100)


def test_a_detection_on_an_unknown_image_is_one_line(two_categories: Path) -> None:
    metric = coco_metric(two_categories)
    metric.process({}, [{"img_id": 7, "pred_instances": instances([BOX], [0], [0.5])}])
    with pytest.raises(UserError, match=r"two\.json: holds no image 7, for which there are detections"):
        metric.evaluate(1)


@pytest.mark.parametrize(("box", "score"), [([10, float("nan"), 20, 20], 0.5), (BOX, float("inf"))])
@pytest.mark.parametrize("metric", [CocoBoxAP("unread.json"), VocBoxAP()])
def test_a_detection_that_is_not_finite_is_one_line(metric: Any, box: list[float], score: float) -> None:
    metric.dataset_meta = {"classes": CLASSES}
    sample = voc_sample([BOX], []) | {"pred_instances": instances([BOX, box], [0, 1], [0.9, score])}
    with pytest.raises(UserError, match=r"^image 000001: 1 of 2 detections are not finite \(box \[10.*(nan|inf).*\)"):
        metric.process({}, [sample])
    assert metric.results == []
