"""What test_mmdet_metrics_ranks.py lets each rank do; called in the test's own process, on one process alone.

MMDetection takes seconds to import, so each job does it itself.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rank_jobs import _fabric

CLASSES = ("cat", "dog", "cow")


def samples(number: int) -> list[dict[str, Any]]:
    """Return images with an object of each of two classes; the first image's detections are right and many."""
    rng = np.random.default_rng(0)
    drawn = []
    for image in range(number):
        boxes = rng.uniform(10, 60, (2, 4)).astype(np.float32)
        boxes[:, 2:] += boxes[:, :2]
        moved = np.repeat(boxes, 3, axis=0) + rng.normal(0, 3 if image else 0.1, (6, 4))
        labels = torch.tensor([0, 1])
        found = {"bboxes": torch.tensor(moved, dtype=torch.float32), "scores": torch.tensor(rng.random(6))}
        drawn.append(
            {
                "img_id": image + 1,
                "gt_instances": {"bboxes": torch.tensor(boxes), "labels": labels},
                "ignored_instances": {"bboxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
                "pred_instances": found | {"labels": labels.repeat_interleave(3)},
            }
        )
    return drawn


def write_annotations(path: Path, number: int) -> None:
    """Write the objects of `samples` in COCO's form."""
    boxes = [
        (one["img_id"], int(k), box) for one in samples(number) for k, box in enumerate(one["gt_instances"]["bboxes"])
    ]
    annotations = [
        {"id": identity, "image_id": image, "category_id": label + 1, "iscrowd": 0}
        | {"bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()], "area": float((box[2:] - box[:2]).prod())}
        for identity, (image, label, box) in enumerate(boxes, 1)
    ]
    images = [{"id": image + 1, "width": 200, "height": 200} for image in range(number)]
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def evaluate(name: str, settings: dict[str, Any], number: int, folder: Path, again: bool = False) -> dict[str, Any]:
    """Evaluate this rank's share of the images, two a batch, from within `folder`; the first image twice with `again`.

    Returns:
        {"values": the figures; "seen": ids of the images of this rank; "files": what `folder` holds after it}.
    """
    if "RANK" in os.environ:
        _fabric()  # it leaves the group to the jobs that follow
    from mmengine.dataset import DefaultSampler

    from transfer.mmdet import metrics

    before = Path.cwd()
    os.chdir(folder)
    try:
        images = samples(number)
        metric = getattr(metrics, name)(**settings)
        metric.dataset_meta = {"classes": CLASSES}
        mine = list(DefaultSampler(images, shuffle=False)) + [0] * again
        for start in range(0, len(mine), 2):
            metric.process({}, [images[index] for index in mine[start : start + 2]])
        values = metric.evaluate(len(images) + again)
    finally:
        os.chdir(before)
    return {"values": values, "seen": [images[k]["img_id"] for k in mine], "files": sorted(os.listdir(folder))}
