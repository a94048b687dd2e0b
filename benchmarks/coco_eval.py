"""Seconds of COCO evaluation by faster-coco-eval, as our evaluators call it, and by pycocotools, and their difference.

Boxes: 1000 images, 80 categories, about 42,000 detections, drawn from a seed. Timed is all from a list of detections to
the twelve figures; reading the annotations is not. The two take turns in one process, so that a machine whose speed
drifts slows both; medians. "difference" is the largest of the twelve figures and of each category's AP and AP50,
fractions all.

    python benchmarks/coco_eval.py [--rounds 5] [--images 1000]

Writes work_dirs/bench/coco_eval.json: {images, objects, detections, seconds, pycocotools_seconds, ratio, difference}.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import io
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from rich.console import Console
from rich.table import Table

from pretrain.console import at_least_one
from pretrain.files import write_json
from transfer.coco_eval import class_percent, evaluate_coco

OUT = Path("work_dirs/bench/coco_eval.json")
CATEGORIES, OBJECTS_PER_IMAGE, SIDE = 80, 7.4, 500  # as many objects an image as COCO's val2017
Record = dict[str, Any]


def main() -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=at_least_one, default=5, help="timed evaluations by each (%(default)s)")
    parser.add_argument("--images", type=at_least_one, default=1000, help="images (%(default)s)")
    arguments = parser.parse_args()

    content, detections = scene(arguments.images)
    found = measure(content, detections, arguments.rounds)
    write_json(OUT, found)
    libraries = [f"{name} {version(name)}" for name in ("faster-coco-eval", "pycocotools")]
    table = Table(title=f"COCO evaluation of boxes, {' and '.join(libraries)}", title_justify="left")
    for heading in ("images", "objects", "detections", "faster s", "pycocotools s", "ratio", "difference"):
        table.add_column(heading, justify="right")
    counts = [f"{found[key]:,}" for key in ("images", "objects", "detections")]
    seconds = [f"{found[key]:.2f}" for key in ("seconds", "pycocotools_seconds")]
    table.add_row(*counts, *seconds, f"{found['ratio']:.1f}", f"{found['difference']:.0e}")
    Console(width=120).print(table)


def measure(content: Record, detections: list[Record], rounds: int) -> Record:
    """Return the median seconds of both, their ratio, and the largest difference of any figure."""
    seconds: dict[Callable[..., Any], list[float]] = {ours: [], theirs: []}
    figures: dict[Callable[..., Any], np.ndarray] = {}
    for _ in range(rounds):
        for evaluate in seconds:
            truth, fresh = read(content), copy.deepcopy(detections)  # both write into what they are given
            gc.collect()  # the other one's leavings
            started = time.perf_counter()
            evaluation = evaluate(truth, fresh)
            seconds[evaluate].append(time.perf_counter() - started)
            figures[evaluate] = all_figures(evaluation)
            del evaluation
    medians = {evaluate: statistics.median(times) for evaluate, times in seconds.items()}
    return {
        "images": len(content["images"]),
        "objects": len(content["annotations"]),
        "detections": len(detections),
        "seconds": medians[ours],
        "pycocotools_seconds": medians[theirs],
        "ratio": medians[theirs] / medians[ours],
        "difference": float(np.abs(figures[ours] - figures[theirs]).max()),
    }


def ours(truth: COCO, detections: list[Record]) -> Any:
    """Return the evaluation by faster-coco-eval."""
    return evaluate_coco(truth, detections, "bbox", "the benchmark")


def theirs(truth: COCO, detections: list[Record]) -> COCOeval:
    """Return the evaluation by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def all_figures(evaluation: Any) -> np.ndarray:
    """Return the twelve figures and each category's AP and AP50, as fractions."""
    of_classes = [
        class_percent(evaluation, number, iou) / 100 for number in evaluation.params.catIds for iou in (None, 0.5)
    ]
    return np.array([*evaluation.stats, *of_classes])


def read(content: Record) -> COCO:
    """Return annotations as pycocotools reads them from a file."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(content)
        truth.createIndex()
    return truth


def scene(images: int, seed: int = 0) -> tuple[Record, list[Record]]:
    """Return (content of an instances_*.json, detections): objects of all sizes, detections right and wrong."""
    rng = np.random.default_rng(seed)
    annotations: list[Record] = []
    detections: list[Record] = []

    def detect(image: int, category: int, box: np.ndarray) -> None:
        found = {"image_id": image, "category_id": category, "bbox": box.tolist(), "score": float(rng.random())}
        detections.append(found)

    for image in range(1, images + 1):
        for _ in range(1 + rng.poisson(OBJECTS_PER_IMAGE - 1)):
            sides = 8 * (SIDE / 16) ** rng.random(2)  # pixels
            box = np.concatenate((rng.random(2) * (SIDE - sides), sides))
            category = int(rng.integers(1, CATEGORIES + 1))
            annotations.append({"id": len(annotations) + 1, "image_id": image, "category_id": category, "iscrowd": 0})
            annotations[-1] |= {"bbox": box.tolist(), "area": float(sides.prod())}
            for _ in range(rng.poisson(4.0)):
                right = rng.random() < 0.8
                moved = box * rng.normal(1, 0.06, 4)
                detect(image, category if right else int(rng.integers(1, CATEGORIES + 1)), moved)
        for _ in range(rng.poisson(12.4)):
            detect(image, int(rng.integers(1, CATEGORIES + 1)), np.abs(rng.normal(120, 60, 4)))
    categories = [{"id": number, "name": str(number)} for number in range(1, CATEGORIES + 1)]
    pictures = [{"id": number, "width": SIDE, "height": SIDE} for number in range(1, images + 1)]
    return {"images": pictures, "annotations": annotations, "categories": categories}, detections


if __name__ == "__main__":
    main()
