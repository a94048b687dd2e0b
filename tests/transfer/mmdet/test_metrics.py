"""AP: values that the definition fixes, and equality with pycocotools."""

import json

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from transfer.mmdet.metrics import CocoBoxAP, VocBoxAP

BOX = [10.0, 10.0, 59.0, 59.0]  # 50 x 50 pixels by VOC's counting
CLASSES = ("cat", "dog")


def voc_sample(truth, found):
    return {
        "gt_instances": {
            "bboxes": torch.tensor(truth).view(-1, 4),
            "labels": torch.zeros(len(truth), dtype=torch.long),
        },
        "ignored_instances": {"bboxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
        "pred_instances": {
            "bboxes": torch.tensor(found).view(-1, 4),
            "scores": torch.linspace(0.9, 0.5, len(found)),
            "labels": torch.zeros(len(found), dtype=torch.long),
        },
    }


def voc_ap(samples):
    metric = VocBoxAP()
    metric.dataset_meta = {"classes": CLASSES, "dataset_type": "VOC2007"}
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def test_voc_perfect_detections_score_100_and_a_class_without_objects_does_not_count():
    values = voc_ap([voc_sample([BOX], [BOX])])
    assert (values["voc/AP"], values["voc/AP50"], values["voc/AP75"]) == pytest.approx((100, 100, 100))
    assert values["voc/class/cat"] == pytest.approx(100)
    assert np.isnan(values["voc/class/dog"])


def test_voc_half_the_objects_found_is_six_elevenths():
    # Precision 1 up to recall 0.5, so at 0, 0.1, ..., 0.5 of the eleven points.
    values = voc_ap([voc_sample([BOX], [BOX]), voc_sample([BOX], [])])
    assert values["voc/AP50"] == pytest.approx(100 * 6 / 11)


def test_voc_boxes_count_the_last_pixel():
    # 36 of 50 columns: IoU 0.72 by VOC's counting, above five of the ten thresholds; 35/49 = 0.714 without it.
    values = voc_ap([voc_sample([BOX], [[10.0, 10.0, 45.0, 59.0]])])
    assert values["voc/AP"] == pytest.approx(50)
    assert values["voc/AP75"] == 0
    # 14 of 20 rows: exactly at the threshold 0.7 with the last pixel, 13/19 = 0.684 without it.
    values = voc_ap([voc_sample([[0.0, 0.0, 19.0, 19.0]], [[0.0, 0.0, 19.0, 13.0]])])
    assert values["voc/AP"] == pytest.approx(50)


@pytest.fixture
def random_coco(tmp_path):
    """Return (annotation file, samples): 12 images of two classes with jittered, doubled and false detections."""
    rng = np.random.default_rng(3)
    images, annotations, samples = [], [], []
    for image in range(1, 13):
        images.append({"id": image, "width": 200, "height": 200, "file_name": f"{image}.jpg"})
        boxes, labels = [], []
        for _ in range(4):
            x, y, width, height = rng.uniform(5, 90, 4)
            label = int(rng.integers(2))
            number = len(annotations) + 1
            annotations.append(
                {
                    "id": number,
                    "image_id": image,
                    "category_id": 10 * (label + 1),
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
            for _ in range(2):
                boxes.append(np.array([x, y, x + width, y + height]) + rng.normal(0, 4, 4))
                labels.append(label if rng.random() < 0.8 else 1 - label)
        found = {
            "bboxes": torch.tensor(np.array(boxes), dtype=torch.float32),
            "scores": torch.tensor(rng.random(len(boxes)), dtype=torch.float32),
            "labels": torch.tensor(labels),
        }
        samples.append({"img_id": image, "pred_instances": found})
    categories = [{"id": 10, "name": "cat"}, {"id": 20, "name": "dog"}]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path, samples


def test_coco_equals_pycocotools(random_coco):
    path, samples = random_coco
    metric = CocoBoxAP(str(path))
    metric.dataset_meta = {"classes": CLASSES}
    metric.process({}, samples)
    values = metric.evaluate(len(samples))

    truth = COCO(str(path))
    detections = [
        {
            "image_id": sample["img_id"],
            "category_id": 10 * (int(label) + 1),
            "bbox": [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])],
            "score": float(score),
        }
        for sample in samples
        for box, score, label in zip(
            *(sample["pred_instances"][key].double() for key in ("bboxes", "scores", "labels"))
        )
    ]
    reference = COCOeval(truth, truth.loadRes(detections), "bbox")
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    found = [values[f"coco/{key}"] for key in ("AP", "AP50", "AP75", "APs", "APm", "APl")]
    wanted = [100 * value if value >= 0 else np.nan for value in reference.stats[:6]]  # -1: no object of that size
    assert found == pytest.approx(wanted, abs=1e-9, nan_ok=True)
    assert 5 < found[0] < 95
    for index, name in enumerate(CLASSES):
        precision = reference.eval["precision"][:, :, index, 0, -1]
        assert values[f"coco/class/{name}"] == pytest.approx(100 * precision.mean(), abs=1e-9)
        assert values[f"coco/class50/{name}"] == pytest.approx(100 * precision[0].mean(), abs=1e-9)


def test_coco_without_a_single_detection_is_zero(random_coco):
    path, samples = random_coco
    metric = CocoBoxAP(str(path))
    metric.dataset_meta = {"classes": CLASSES}
    none = {"bboxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)}
    metric.process({}, [{**sample, "pred_instances": none} for sample in samples])
    assert set(metric.evaluate(len(samples)).values()) == {0.0}
