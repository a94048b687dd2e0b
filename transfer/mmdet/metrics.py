"""Average precision by COCO's and by VOC 2007's rules, in percent, whole and per class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO
from mmdet.evaluation.functional.mean_ap import average_precision, get_cls_results
from mmdet.evaluation.metrics import VOCMetric
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from pretrain.console import UserError, did_you_mean, first_few
from transfer.coco_eval import class_percent, evaluate_coco, percent
from transfer.voc_eval import THRESHOLDS, best_objects, judge

# mmengine's default, "cpu", gathers the ranks' results in a folder .dist_test of the current one, which all machines
# would have to share and which a killed run leaves behind; "gpu" sends them through the process group, gloo's too.
COLLECT_DEVICE = "gpu"


@METRICS.register_module()
class CocoBoxAP(BaseMetric):
    """COCO's box AP by faster-coco-eval: the figures of pycocotools, unrounded, in a fraction of the time.

    Args:
        ann_file: Annotations of the evaluated images, `instances_*.json`.
        settings: See mmengine's BaseMetric.
    """

    default_prefix = "coco"

    def __init__(self, ann_file: str, **settings: Any) -> None:
        super().__init__(**{"collect_device": COLLECT_DEVICE, **settings})
        self.ann_file = ann_file

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep (image id, boxes (n, 4) x0, y0, x1, y1 in pixels of the original, scores (n,), labels (n,)).

        Raises:
            UserError: A box or a score is not finite.
        """
        self.results += [(sample["img_id"], *_detections(sample)) for sample in data_samples]

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Return {"AP", "AP50", "AP75", "APs", "APm", "APl", "class/<name>", "class50/<name>"} in percent.

        A class or size without an object is NaN; where there is nothing detected, the others are 0.

        Raises:
            UserError: The classes are not the annotations', or a detection belongs to no image of theirs.
        """
        truth = COCO(self.ann_file)
        category = category_ids(truth.dataset["categories"], self.dataset_meta["classes"], self.ann_file)
        detections = [
            {"image_id": image, "category_id": category[label], "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
            for image, *arrays in results
            for (x0, y0, x1, y1), score, label in zip(*(array.tolist() for array in arrays))
        ]
        images = [result[0] for result in results]
        evaluation = evaluate_coco(truth, detections, "bbox", self.ann_file, images, category)
        keys = ("AP", "AP50", "AP75", "APs", "APm", "APl")
        values = {key: percent(value) for key, value in zip(keys, evaluation.stats)}
        for name, number in zip(self.dataset_meta["classes"], category):
            values[f"class/{name}"] = class_percent(evaluation, number)
            values[f"class50/{name}"] = class_percent(evaluation, number, 0.5)
        return values


def category_ids(categories: Sequence[dict[str, Any]], classes: Sequence[str], where: str) -> list[int]:
    """Return the category id of each class.

    Args:
        categories: Of the annotations: {"id", "name"} each.
        classes: The configuration's.
        where: The file, for messages.

    Raises:
        UserError: A class is not in the annotations, or the classes are in another order there. mmdet's CocoDataset
            numbers its labels in the order of the file, whatever that of the classes is: names would change places.
    """
    numbers = {category["name"]: int(category["id"]) for category in categories}
    if unknown := [name for name in classes if name not in numbers]:
        raise UserError(
            f"{where}: no category '{unknown[0]}' ({len(unknown)} of the {len(classes)} configured classes are not "
            f"in it){did_you_mean(unknown[0], list(numbers))}"
        )
    there = [name for name in numbers if name in classes]
    if there != list(classes):
        raise UserError(
            f"{where}: its categories come as {first_few(there)}, the configuration's classes as {first_few(classes)}, "
            "and MMDetection numbers them in the file's order; give dataset.metainfo.classes in that order"
        )
    return [numbers[name] for name in classes]


@METRICS.register_module()
class VocBoxAP(VOCMetric):
    """VOC 2007's 11-point AP at ten IoU thresholds, which Detectron2's PascalVOCDetectionEvaluator reports, too.

    Args:
        settings: See mmengine's BaseMetric.
    """

    default_prefix = "voc"

    def __init__(self, **settings: Any) -> None:
        thresholds = [threshold / 100 for threshold in THRESHOLDS]
        super().__init__(thresholds, eval_mode="11points", **{"collect_device": COLLECT_DEVICE, **settings})

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep the objects and the detections of each image, as VOCMetric does.

        Raises:
            UserError: A box or a score is not finite.
        """
        for sample in data_samples:
            _detections(sample)
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Return {"AP" (mean over 0.50:0.95), "AP50", "AP75", "class/<name>", "class50/<name>"} in percent.

        A class without an object is NaN and counts for no mean.
        """
        table = average_precisions(results)
        values = {"AP": _mean(table), "AP50": _mean(table[0]), "AP75": _mean(table[THRESHOLDS.index(75)])}
        for index, name in enumerate(self.dataset_meta["classes"]):
            values[f"class/{name}"], values[f"class50/{name}"] = _mean(table[:, index]), _mean(table[0, index])
        return values


def average_precisions(results: Sequence[tuple[dict[str, np.ndarray], list[np.ndarray]]]) -> np.ndarray:
    """Return each class's 11-point average precision at THRESHOLDS, (10, classes), NaN where it has no object.

    Every one equals that of mmdet's `eval_map`, which compares all boxes anew for each threshold.

    Args:
        results: What VOCMetric keeps of each image: {"bboxes" (m, 4), "labels" (m,), and of difficult objects
            "bboxes_ignore", "labels_ignore"}, and for each class detections (n, 5), a box and its score.
    """
    truth, found = zip(*results)
    of_classes = [_of_class(*get_cls_results(found, truth, label)) for label in range(len(found[0]))]
    return np.stack(of_classes, axis=1)


def _of_class(found: list[np.ndarray], objects: list[np.ndarray], ignored: list[np.ndarray]) -> np.ndarray:
    """Return the average precision (10,) of one class: detections (n, 5), objects and difficult ones, by image."""
    positives = sum(map(len, objects))
    if not positives:
        return np.full(len(THRESHOLDS), np.nan)
    rows = np.concatenate(found)
    # eval_map sorts by score within each image to match, then all to count. Neither sort is stable: which of equal
    # scores comes first is numpy's choice, and the same when the same arrays are sorted.
    starts = np.cumsum([0, *map(len, found[:-1])])
    matching = np.concatenate([start + np.argsort(-some[:, 4]) for start, some in zip(starts, found)])
    counting = np.argsort(-rows[:, 4])
    images = np.repeat(np.arange(len(found)), [len(some) for some in found])  # in the order of matching, too
    theirs = {
        image: (np.concatenate((plain, hard)), np.arange(len(plain) + len(hard)) >= len(plain))
        for image, (plain, hard) in enumerate(zip(objects, ignored))
        if len(plain) + len(hard)
    }
    overlaps, matched, difficult = best_objects(images.tolist(), rows[matching, :4].astype(np.float32), theirs)
    judged = [judge(overlaps >= threshold / 100, matched, difficult) for threshold in THRESHOLDS]
    place = np.argsort(matching)[counting]  # of the detections by falling score, among those in the order of matching
    true, false = (np.cumsum(np.array(flags)[:, place], axis=1, dtype=np.float32) for flags in zip(*judged))
    precision = true / np.maximum(true + false, np.finfo(np.float32).eps)
    fractions: np.ndarray = average_precision(true.astype(float) / positives, precision, "11points")
    return fractions.astype(float)  # of float32, with errors below 1e-6; means of them are not to add their own


def _detections(sample: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image's boxes (n, 4), scores (n,) and labels (n,).

    Raises:
        UserError: A box or a score is not finite.
    """
    boxes, scores, labels = (sample["pred_instances"][key].cpu().numpy() for key in ("bboxes", "scores", "labels"))
    broken = ~(np.isfinite(boxes).all(axis=1) & np.isfinite(scores))
    if broken.any():
        row = int(broken.argmax())
        raise UserError(
            f"image {sample['img_id']}: {broken.sum()} of {len(boxes)} detections are not finite (box "
            f"{boxes[row].tolist()}, score {scores[row]}); the weights have run away: evaluate an earlier checkpoint, "
            "or train with a lower rate"
        )
    return boxes, scores, labels


def _mean(values: np.ndarray) -> float:
    return 100 * float(np.nanmean(values)) if not np.all(np.isnan(values)) else float("nan")
