"""Milliseconds a score map by the compiled kernels and by OpenCV's contours, one thread; and a whole evaluation.

"kernels" and "contours" find the best box at each different level; "thresholds" traces the contours once for each
threshold, 1000 times at the interval 0.001, as the metric is defined and as wsolevaluation computes it.

Maps of 224 x 224 pixels, drawn from a seed: cubic upsamplings of 14 x 14 noise, like a ResNet's class activation maps
at the stride of wsolevaluation; of 7 x 7 and of 28 x 28; smooth noise; white noise, the worst there is. Each with one
true box. The ways take turns on the same maps ("thresholds" on a tenth of them), so that a machine whose speed drifts
slows all; medians of the rounds. "ratio" is thresholds over kernels. "difference" counts the IoUs that are not the same
to the last bit, of all maps, levels and rounds, kernels against contours.

The whole evaluation is the one of tools/eval_wsol.py after the network's forward passes: as many maps as CUB's test
split has images, resized from 14 x 14 by threads, measured by both versions of the metric and by the centred Gaussian,
counted.

    python benchmarks/wsol.py [--rounds 3] [--maps 40] [--images 5794]

Writes work_dirs/bench/wsol.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

sys.path.remove(str(Path(__file__).resolve().parent))  # in this folder `wsol` would be this file

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from pretrain.console import at_least_one
from pretrain.files import write_json
from wsol import contours, kernels
from wsol.ahead import ahead
from wsol.boxes import LEVELS, Contours, box_iou, levels_of, quantise, thresholds
from wsol.counting.tally import BoxTally
from wsol.maps.cam import to_score_map
from wsol.maps.sources import Scored
from wsol.metadata import ImageRecord

OUT = Path("work_dirs/bench/wsol.json")
SIDE, INTERVALS = 224, (0.001, 0.01)


def by_thresholds(
    pixels: np.ndarray, at: np.ndarray, true: np.ndarray, largest: bool
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the best IoU (T,) and the boxes at each threshold."""
    which: Contours = "largest" if largest else "all"
    boxes = [contours.boxes_above(pixels, int(threshold * int(pixels.max())), which) for threshold in at]
    starts = np.cumsum([0, *map(len, boxes[:-1])])
    return np.maximum.reduceat(box_iou(np.concatenate(boxes), true).max(axis=1), starts), boxes


WAYS: dict[str, Callable[..., tuple[np.ndarray, Any]]] = {
    "kernels": kernels.best_boxes,
    "contours": contours.best_boxes,
    "thresholds": by_thresholds,
}


def main() -> None:
    """Measure, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--rounds", type=at_least_one, default=3, help="timed passes over the maps by each way (%(default)s)")
    add("--maps", type=at_least_one, default=40, help="maps of each kind; a tenth of white noise (%(default)s)")
    add("--images", type=at_least_one, default=5794, help="images of the whole evaluation (%(default)s)")
    arguments = parser.parse_args()

    cv2.setNumThreads(1)
    rows = [
        measure(kind, pixels, version, interval, arguments.rounds)
        for kind, pixels in scenes(arguments.maps)
        for version in ("V2", "V1")
        for interval in INTERVALS
    ]
    whole = [evaluate(arguments.images, threads) for threads in (1, 2)]
    write_json(OUT, {"maps": rows, "whole": whole})

    table = Table(title="Milliseconds a map of 224 x 224, one thread", title_justify="left")
    for heading in ("maps", "version", "interval", *(f"{way} ms" for way in WAYS), "ratio", "difference"):
        table.add_column(heading, justify="left" if heading in ("maps", "version") else "right")
    for row in rows:
        milliseconds = [f"{row[way]:.2f}" for way in WAYS]
        table.add_row(
            row["maps"],
            row["version"],
            str(row["interval"]),
            *milliseconds,
            f"{row['ratio']:.1f}",
            str(row["difference"]),
        )
    console = Console(width=120)
    console.print(table)
    for row in whole:
        console.print(
            f"{row['images']:,} maps, {row['threads']} threads: {row['seconds']:.1f} s, MaxBoxAccV2 {row['mean']:.2f}"
        )


def measure(kind: str, pixels: list[np.ndarray], version: str, interval: float, rounds: int) -> dict[str, Any]:
    """Return the median milliseconds a map of each way, their ratio, and how many IoUs differ."""
    at = thresholds(interval)
    wanted = np.zeros(LEVELS, dtype=np.bool_)
    wanted[levels_of(at, LEVELS - 1)[0]] = True
    true = np.array([[26.0, 18, 172, 221]])
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    difference = 0
    for _ in range(rounds + 1):  # the first compiles
        found = {}
        for way, find in WAYS.items():
            some, where = (pixels[::10], at) if way == "thresholds" else (pixels, wanted)
            started = time.perf_counter()
            found[way] = [find(each, where, true, version == "V1")[0] for each in some]
            seconds[way].append((time.perf_counter() - started) / len(some))
        difference += sum(int((a != b).sum()) for a, b in zip(found["kernels"], found["contours"]))
    medians = {way: 1000 * statistics.median(times[1:]) for way, times in seconds.items()}
    return {
        "maps": kind,
        "version": version,
        "interval": interval,
        **medians,
        "ratio": medians["thresholds"] / medians["kernels"],
        "difference": difference,
    }


def scenes(count: int, seed: int = 0) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield each kind of map and its maps (224, 224) uint8, the highest pixel 255."""
    rng = np.random.default_rng(seed)
    kinds = {f"CAM {side}x{side}": side for side in (14, 7, 28)} | {"smooth noise": SIDE, "white noise": SIDE}
    for kind, side in kinds.items():
        number = max(count // 10, 1) if kind == "white noise" else count
        raw = [rng.standard_normal((side, side)) for _ in range(number)]
        if kind == "smooth noise":
            raw = [np.asarray(cv2.GaussianBlur(each, (0, 0), 4)) for each in raw]
        yield kind, [quantise(to_score_map(each, (SIDE, SIDE))) for each in raw]


def evaluate(images: int, threads: int) -> dict[str, Any]:
    """Return the seconds of a whole evaluation from raw maps of 14 x 14 to MaxBoxAccV2."""
    rng = np.random.default_rng(0)
    near, far = rng.integers(0, 100, (images, 2)), rng.integers(120, SIDE, (images, 2))
    boxes = np.concatenate([near, far], axis=1)
    raw = rng.standard_normal((images, 14, 14))
    tally = BoxTally(0.001, 200)

    def scored() -> Iterator[Scored]:
        for place in range(images):
            record = ImageRecord(str(place), place % 200, (SIDE, SIDE), boxes[place : place + 1])
            yield Scored(record, partial(to_score_map, raw[place], (SIDE, SIDE)), rank=place % 7, predicted=0)

    started = time.perf_counter()
    for _, measured in ahead(scored(), lambda one: tally.measure(one, one.score_map()), threads, pending=64):
        tally.add(measured)
    seconds = time.perf_counter() - started
    result = tally.metric.result_of(tally.counts["hits"].sum(axis=0), images)
    return {"images": images, "threads": threads, "seconds": seconds, "mean": result.mean}


if __name__ == "__main__":
    main()
