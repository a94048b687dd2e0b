"""Seconds of VOC evaluation in MMDetection by our VocBoxAP and by mmdet's own eval_map, and their difference.

Data of VOC 2007 test's size, drawn from a seed: 4,952 images with 100 detections each, about 15,000 objects of 20
classes, a fifth of them difficult. Timed is all from the gathered results to the figures at ten IoU thresholds;
eval_map is called once for each, with a pool of two processes. The two take turns, so that a machine whose speed drifts
slows both; medians. "difference" is the largest of any class's average precision at any threshold, a fraction.

    python benchmarks/voc_eval.py [--rounds 1] [--images 4952]

Writes work_dirs/bench/voc_eval.json: {images, objects, detections, seconds, eval_map_seconds, ratio, difference}.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pretrain.console import at_least_one
from pretrain.files import write_json
from transfer.mmdet.metrics import average_precisions
from transfer.voc_eval import THRESHOLDS

OUT = Path("work_dirs/bench/voc_eval.json")
CLASSES, OBJECTS_PER_IMAGE, DIFFICULT, DETECTIONS_PER_IMAGE = 20, 14976 / 4952, 2944 / 14976, 100
WIDTH, HEIGHT = 500, 375  # pixels
Results = list[tuple[dict[str, np.ndarray], list[np.ndarray]]]


def main() -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=at_least_one, default=1, help="timed evaluations by each (%(default)s)")
    parser.add_argument("--images", type=at_least_one, default=4952, help="images (%(default)s)")
    arguments = parser.parse_args()

    found = measure(scene(arguments.images), arguments.rounds)
    write_json(OUT, found)
    table = Table(title=f"VOC evaluation, mmdet {version('mmdet')}", title_justify="left")
    for heading in ("images", "objects", "detections", "ours s", "eval_map s", "ratio", "difference"):
        table.add_column(heading, justify="right")
    counts = [f"{found[key]:,}" for key in ("images", "objects", "detections")]
    seconds = [f"{found[key]:.2f}" for key in ("seconds", "eval_map_seconds")]
    table.add_row(*counts, *seconds, f"{found['ratio']:.1f}", f"{found['difference']:.0e}")
    Console(width=120).print(table)


def measure(results: Results, rounds: int) -> dict[str, Any]:
    """Return the median seconds of both, their ratio, and the largest difference of any figure."""
    seconds: dict[Callable[..., np.ndarray], list[float]] = {ours: [], theirs: []}
    figures: dict[Callable[..., np.ndarray], np.ndarray] = {}
    for _ in range(rounds):
        for evaluate in seconds:
            gc.collect()  # the other one's leavings
            started = time.perf_counter()
            figures[evaluate] = evaluate(results)
            seconds[evaluate].append(time.perf_counter() - started)
    medians = {evaluate: statistics.median(times) for evaluate, times in seconds.items()}
    return {
        "images": len(results),
        "objects": sum(len(truth[key]) for truth, _ in results for key in ("labels", "labels_ignore")),
        "detections": sum(len(boxes) for _, found in results for boxes in found),
        "seconds": medians[ours],
        "eval_map_seconds": medians[theirs],
        "ratio": medians[theirs] / medians[ours],
        "difference": float(np.abs(figures[ours] - figures[theirs]).max()),
    }


def ours(results: Results) -> np.ndarray:
    """Return the average precisions (10, classes) by VocBoxAP."""
    return average_precisions(results)


def theirs(results: Results) -> np.ndarray:
    """Return the average precisions (10, classes) by mmdet's eval_map."""
    from mmdet.evaluation.functional import eval_map  # our package has to be imported first

    truth, found = zip(*results)
    settings = {"dataset": "voc", "logger": "silent", "use_legacy_coordinate": True, "eval_mode": "11points"}
    by_threshold = [eval_map(found, truth, iou_thr=iou / 100, nproc=2, **settings)[1] for iou in THRESHOLDS]
    return np.array([[entry["ap"] for entry in classes] for classes in by_threshold])


def scene(images: int, seed: int = 0) -> Results:
    """Return what VOCMetric keeps of each image: detections right, doubled, moved and false, scores to match."""
    rng = np.random.default_rng(seed)
    results: Results = []
    for _ in range(images):
        number = rng.poisson(OBJECTS_PER_IMAGE)
        boxes, labels = random_boxes(rng, number), rng.integers(CLASSES, size=number)
        ignored = rng.random(number) < DIFFICULT
        copied = rng.integers(number, size=DETECTIONS_PER_IMAGE // 4) if number else np.zeros(0, int)
        sides = np.tile(boxes[copied, 2:] - boxes[copied, :2], 2)
        right = boxes[copied] + rng.normal(0, 0.08, sides.shape) * sides
        false = random_boxes(rng, DETECTIONS_PER_IMAGE - len(copied))
        found = np.concatenate((right, false))
        found_labels = np.concatenate((labels[copied], rng.integers(CLASSES, size=len(false))))
        scores = np.concatenate((rng.beta(4, 2, len(right)), rng.beta(1, 6, len(false))))
        rows = np.column_stack((found, scores)).astype(np.float32)
        truth: dict[str, np.ndarray] = {
            "bboxes": boxes[~ignored].astype(np.float32),
            "labels": labels[~ignored],
            "bboxes_ignore": boxes[ignored].astype(np.float32),
            "labels_ignore": labels[ignored],
        }
        results.append((truth, [rows[found_labels == label] for label in range(CLASSES)]))
    return results


def random_boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    """Return boxes (number, 4) as x0, y0, x1, y1 in whole pixels, from small ones to nearly the whole image."""
    sides = np.array((WIDTH, HEIGHT)) * np.exp(rng.uniform(np.log(0.05), np.log(0.95), (number, 2)))
    corner = rng.random((number, 2)) * (np.array((WIDTH, HEIGHT)) - sides)
    return np.concatenate((corner, corner + sides), axis=1).round()


if __name__ == "__main__":
    main()
