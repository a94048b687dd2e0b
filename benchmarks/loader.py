"""Images a second of our loader and of timm's, on the same files, with the same batch, workers and augmentation.

An image is read, cropped, augmented, put into a batch, normalised and, where that is asked for, erased. The two take
turns in one process, an epoch each, so that a machine whose speed drifts slows both; "ratio" is that of the median
images a second, above one where ours is faster. The first epoch, in which workers start, is not counted. Photographs:
400 crops of scikit-image's, about 500 x 375 pixels, JPEG of quality 90. Small images: 4000 PNGs of 32 pixels. Both are
made once, under work_dirs/bench/loader.

    python benchmarks/loader.py [--rounds 7] [--workers 0 1 2] [--rows NAME ...]

Writes work_dirs/bench/loader.json: {row: {workers: {ratio, images_per_second, timm_images_per_second}}}.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from timm.data import ImageDataset, create_loader
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torchvision import transforms

from pretrain.console import at_least_one
from pretrain.data.datasets import SeededImageFolder
from pretrain.data.loaders import EpochSampler, build_loader, start
from pretrain.data.transforms import (
    Normalise,
    TransformSettings,
    eval_transform,
    train_transform,
    with_every_posterize,
)
from pretrain.files import write_json

OUT = Path("work_dirs/bench/loader.json")
IMAGES = Path("work_dirs/bench/loader")
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "immunohistochemistry")
CLASSES = 4
CPU = torch.device("cpu")
Epoch = Callable[[], Iterator[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Row:
    """What is done to which images: our settings, and timm's words for the same."""

    folder: str
    batch: int
    ours: TransformSettings
    timms: dict[str, Any]
    training: bool = True
    padded_crop: bool = False
    erasing: float = field(default=0.0)


PLAIN: dict[str, Any] = {"color_jitter": None, "interpolation": "bilinear"}
RAND = "rand-m9-mstd0.5-inc1"
ROWS = {
    "train": Row("photographs", 32, TransformSettings(), PLAIN),
    "train, RandAugment and erasing": Row(
        "photographs", 32, TransformSettings(auto_augment=RAND), {**PLAIN, "auto_augment": RAND}, erasing=0.25
    ),
    "eval": Row("photographs", 32, TransformSettings(), {**PLAIN, "crop_pct": 0.875}, training=False),
    "train, 32 px": Row("small", 100, TransformSettings(size=32, train_crop="padded"), PLAIN, padded_crop=True),
}


def main() -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=at_least_one, default=7, help="timed epochs of each (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), help="default: all")
    arguments = parser.parse_args()

    make_images("photographs", 400, (500, 375), ".jpg")
    make_images("small", 4000, (32, 32), ".png")
    results: dict[str, dict[int, dict[str, float]]] = {}
    table = Table(title=f"Images a second, torch {torch.__version__}", title_justify="left")
    for heading in ("row", "workers", "ours", "timm's", "ratio"):
        table.add_column(heading, justify="left" if heading == "row" else "right", no_wrap=True)
    for name in arguments.rows:
        results[name] = {}
        for workers in arguments.workers:
            found = results[name][workers] = measure(ROWS[name], workers, arguments.rounds)
            speeds = [f"{found[key]:,.0f}" for key in ("images_per_second", "timm_images_per_second")]
            table.add_row(name, str(workers), *speeds, f"{found['ratio']:.2f}")
    write_json(OUT, results)
    Console(width=100).print(table)


def measure(row: Row, workers: int, rounds: int) -> dict[str, float]:
    """Return the median images a second of both loaders, and their ratio."""
    torch.manual_seed(0)
    epochs = {"ours": ours(row, workers), "timm's": timms(row, workers)}
    speeds: dict[str, list[float]] = {name: [] for name in epochs}
    for number in range(rounds + 1):
        for name, epoch in epochs.items():
            speed = images_a_second(epoch)
            if number:  # the first one starts the workers
                speeds[name].append(speed)
    medians = {name: statistics.median(each) for name, each in speeds.items()}
    return {
        "ratio": medians["ours"] / medians["timm's"],
        "images_per_second": medians["ours"],
        "timm_images_per_second": medians["timm's"],
    }


def images_a_second(epoch: Epoch) -> float:
    """Return the speed of one pass over the images."""
    started, images = time.perf_counter(), 0
    for batch, _ in epoch():
        images += len(batch)
    return images / (time.perf_counter() - started)


def ours(row: Row, workers: int) -> Epoch:
    """Return our loader, as a run uses it."""
    transform = train_transform(row.ours) if row.training else eval_transform(row.ours)
    images = SeededImageFolder(IMAGES / row.folder, transform)
    sampler = EpochSampler(len(images), row.batch, shuffle=row.training)
    loader = build_loader(images, sampler, workers, pin_memory=False)
    normalise, erase = Normalise(), RandomErasing(row.erasing, mode="pixel", device=CPU)

    def epoch() -> Iterator[tuple[Tensor, Tensor]]:
        for batch, labels in start(loader):
            yield erase(normalise(batch)), labels
        sampler.start(sampler.epoch + 1)

    return epoch


def timms(row: Row, workers: int) -> Epoch:
    """Return timm's loader, as its training script uses it."""
    loader = create_loader(
        ImageDataset(str(IMAGES / row.folder)),
        input_size=(3, row.ours.size, row.ours.size),
        batch_size=row.batch,
        is_training=row.training,
        num_workers=workers,
        re_prob=row.erasing,
        re_mode="pixel",
        device=CPU,
        **row.timms,
    )
    steps = loader.dataset.transform.transforms
    if row.padded_crop:  # as DeiT's script does for CIFAR
        steps[0] = transforms.RandomCrop(row.ours.size, padding=row.ours.padding)
    if row.ours.auto_augment:
        with_every_posterize(steps[2])
    return partial(iter, loader)


def make_images(name: str, count: int, size: tuple[int, int], suffix: str) -> None:
    """Write `count` random crops of photographs in CLASSES folders, each about `size` before it is scaled down."""
    folder = IMAGES / name
    if folder.is_dir():
        return
    unfinished = IMAGES / f"{name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(getattr(skimage.data, photograph)()).convert("RGB") for photograph in PHOTOGRAPHS]
    for number in range(count):
        photograph = photographs[rng.integers(len(photographs))]
        share = rng.uniform(0.7, 1.0)
        width, height = int(share * photograph.width), int(share * photograph.height)
        x, y = (int(rng.integers(whole - part + 1)) for whole, part in zip(photograph.size, (width, height)))
        scale = rng.uniform(0.9, 1.1) if suffix == ".jpg" else 1.0
        crop = photograph.resize((int(scale * size[0]), int(scale * size[1])), box=(x, y, x + width, y + height))
        path = unfinished / f"class_{number % CLASSES}" / f"{number:05d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        crop.save(path, quality=90)
    unfinished.rename(folder)


if __name__ == "__main__":
    main()
