"""Average precision by COCO's and by VOC 2007's rules, in percent, whole and per class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO
from mmdet.evaluation.functional import eval_map
from mmdet.evaluation.metrics import VOCMetric
from mmdet.registry import METRICS
from mmengine.evaluator import BaseMetric

from transfer.coco_eval import class_percent, evaluate_coco, percent

IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
PER_CLASS = ("class", "class50")  # AP over all thresholds, AP at IoU 0.5


@METRICS.register_module()
class CocoBoxAP(BaseMetric):
    """COCO's box AP by faster-coco-eval: the figures of pycocotools, unrounded, in a fraction of the time.

    Args:
        ann_file: Annotations of the evaluated images, `instances_*.json`.
        settings: See mmengine's BaseMetric.
    """

    default_prefix = "coco"

    def __init__(self, ann_file: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.ann_file = ann_file

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep (image id, boxes (n, 4) x0, y0, x1, y1 in pixels of the original, scores (n,), labels (n,))."""
        for sample in data_samples:
            found = sample["pred_instances"]
            arrays = (found[key].cpu().numpy() for key in ("bboxes", "scores", "labels"))
            self.results.append((sample["img_id"], *arrays))

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Return {"AP", "AP50", "AP75", "APs", "APm", "APl", "class/<name>", "class50/<name>"} in percent."""
        truth = COCO(self.ann_file)
        names = list(self.dataset_meta["classes"])
        category = [truth.getCatIds(catNms=[name])[0] for name in names]
        detections = [
            {"image_id": image, "category_id": category[label], "bbox": _corner_and_size(box), "score": float(score)}
            for image, boxes, scores, labels in results
            for box, score, label in zip(boxes, scores, labels)
        ]
        if not detections:
            return dict.fromkeys(["AP", "AP50", "AP75", *(f"{key}/{name}" for key in PER_CLASS for name in names)], 0.0)
        images = [result[0] for result in results]
        evaluation = evaluate_coco(truth, detections, "bbox", self.ann_file, images, category)
        keys = ("AP", "AP50", "AP75", "APs", "APm", "APl")
        values = {key: percent(value) for key, value in zip(keys, evaluation.stats)}
        for name, number in zip(names, category):
            values[f"class/{name}"] = class_percent(evaluation, number)
            values[f"class50/{name}"] = class_percent(evaluation, number, 0.5)
        return values


@METRICS.register_module()
class VocBoxAP(VOCMetric):
    """VOC 2007's 11-point AP at ten IoU thresholds, as Detectron2's PascalVOCDetectionEvaluator reports it."""

    default_prefix = "voc"

    def __init__(self, **settings: Any) -> None:
        super().__init__(iou_thrs=list(IOU_THRESHOLDS), eval_mode="11points", **settings)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Return {"AP" (mean over 0.50:0.95), "AP50", "AP75", "class/<name>", "class50/<name>"} in percent."""
        truth, found = zip(*results)
        names = self.dataset_meta["classes"]
        by_threshold = []
        for threshold in IOU_THRESHOLDS:
            # VOC counts the pixel at xmax, ymax as part of the box: the legacy coordinates.
            _, classes = eval_map(
                found, truth, iou_thr=threshold, dataset="voc", logger="silent", nproc=2,
                use_legacy_coordinate=True, eval_mode="11points",
            )  # fmt: skip
            by_threshold.append([
                float(np.max(entry["ap"], initial=0.0)) if np.any(entry["num_gts"]) else np.nan for entry in classes
            ])  # fmt: skip
        table = np.array(by_threshold)  # (10, classes); NaN where the class has no object
        values = {"AP": _mean(table), "AP50": _mean(table[0]), "AP75": _mean(table[IOU_THRESHOLDS.index(0.75)])}
        for index, name in enumerate(names):
            values[f"class/{name}"], values[f"class50/{name}"] = _mean(table[:, index]), _mean(table[0, index])
        return values


def _corner_and_size(box: np.ndarray) -> list[float]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return [x0, y0, x1 - x0, y1 - y0]


def _mean(values: np.ndarray) -> float:
    return 100 * float(np.nanmean(values)) if not np.all(np.isnan(values)) else float("nan")
