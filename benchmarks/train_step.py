"""Cost of a training step of each method, over vanilla's in the same run.

The methods take turns, so that a machine whose speed drifts slows all of them alike; the median step counts.

    python benchmarks/train_step.py [--size 64] [--batch 32] [--steps 10] [--backbone resnet18]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table

from pretrain.backbones import build_backbone
from pretrain.training.methods import build_method
from pretrain.training.optim import build_optimizer
from pretrain.training.settings import METHODS, OptimSettings

CLASSES = 100


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="side of the images, pixels (%(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="images a step (%(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each method (%(default)s)")
    parser.add_argument("--backbone", default="resnet18", help="timm's name (%(default)s)")
    arguments = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = (arguments.batch, 3, arguments.size, arguments.size)
    images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (arguments.batch,), device=device)
    generator = torch.Generator().manual_seed(0)
    steps = {}
    for name, settings in METHODS.items():
        method = build_method(settings(name=name), build_backbone(arguments.backbone, CLASSES), CLASSES)
        method.to(device).to(memory_format=torch.channels_last)
        steps[name] = (method, build_optimizer(method, OptimSettings(lr=0.01)))
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(arguments.steps + 1):
        for name, (method, optimizer) in steps.items():
            started = time.perf_counter()
            method.training_step(images, labels, generator=generator, backward=torch.Tensor.backward)
            optimizer.step()
            optimizer.zero_grad()
            method.after_step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:  # the first turn warms up
                seconds[name].append(time.perf_counter() - started)

    title = f"{arguments.backbone}, {arguments.size} px, batch {arguments.batch}, {device.type}, "
    title += f"{torch.get_num_threads()} threads, torch {torch.__version__}, {platform.machine()}"
    table = Table("method", "seconds a step", "over vanilla", title=title, title_justify="left")
    vanilla = statistics.median(seconds["vanilla"])
    for name, times in seconds.items():
        median = statistics.median(times)
        table.add_row(name, f"{median:.3f}", f"{median / vanilla:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
