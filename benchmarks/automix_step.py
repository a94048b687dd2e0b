"""Cost of a whole AutoMix step over a vanilla step, against the floor that the algorithm sets; and of preset "fast".

A step is losses, backward, optimizer and moving average. All take turns in one process, so that a machine whose speed
drifts slows all alike; the median step counts. The floor counts the floating-point operations of the passes that
Algorithm 1 needs, over those of a vanilla step (torch's FlopCounterMode): student twice forward and backward, teacher
once forward and backward to its input, teacher once as far as stage l, the Mix Block once for each branch. Activations
are what autograd holds at the peak of a step: counted by saved-tensor hooks on a CPU, by CUDA's allocator on a GPU.

    python benchmarks/automix_step.py [--pairs 20] [--setups NAME ...] [--precision bf16] [--compile]

Writes work_dirs/bench/automix_step.json: {setup: {ratio, floor, quotient, activation_ratio, fast_ratio, ...}}.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from pretrain.automix import AutoMix, AutoMixSettings, MixBlock
from pretrain.automix.step import mix
from pretrain.backbones import build_backbone, stage_channels, stage_features
from pretrain.console import at_least_one
from pretrain.files import write_json
from pretrain.training.cost import flop_counter
from pretrain.training.dry_run import saved_bytes
from pretrain.training.method_settings import VanillaSettings
from pretrain.training.methods import build_method
from pretrain.training.optim import build_optimizer
from pretrain.training.settings import OptimSettings

CLASSES = 100
OUT = Path("work_dirs/bench/automix_step.json")


@dataclass(frozen=True)
class Setup:
    """What is trained: a backbone on images of `size` pixels, `batch` of them a step."""

    backbone: str
    size: int
    batch: int


SETUPS = {
    "cifar_resnet18_32px_batch64": Setup("cifar_resnet18", 32, 64),
    "resnet18_64px_batch32": Setup("resnet18", 64, 32),
    "resnet18_224px_batch256": Setup("resnet18", 224, 256),
    "resnet50_224px_batch128": Setup("resnet50", 224, 128),
}
DEFAULT = ("cifar_resnet18_32px_batch64", "resnet18_64px_batch32")


def main() -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=at_least_one, default=20, help="timed steps of each (%(default)s)")
    parser.add_argument("--setups", nargs="+", choices=SETUPS, default=DEFAULT, help="default: %(default)s")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="autocast (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="translate the networks by torch.compile")
    arguments = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    title = f"AutoMix's step over vanilla's: {where}, torch {torch.__version__}, {arguments.precision}"
    table = Table(title=title + (", compiled" if arguments.compile else ""), title_justify="left")
    headings = ("setup", "vanilla ms", "AutoMix ms", "ratio", "floor", "quotient", "activations", "fast")
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "setup" else "right", no_wrap=True)
    results = {}
    for name in arguments.setups:
        results[name] = found = measure(SETUPS[name], arguments.pairs, device, arguments.precision, arguments.compile)
        milliseconds = [f"{1000 * found[key]:.1f}" for key in ("vanilla_seconds", "automix_seconds")]
        ratios = [f"{found[key]:.3f}" for key in ("ratio", "floor", "quotient", "activation_ratio", "fast_ratio")]
        table.add_row(name, *milliseconds, *ratios)
    write_json(OUT, results)
    Console(width=120).print(table)


def measure(setup: Setup, pairs: int, device: torch.device, precision: str, compiled: bool) -> dict[str, float]:
    """Return ratio, floor, their quotient, the activations' ratio and the median seconds of both steps."""
    torch.manual_seed(0)
    shape = (setup.batch, 3, setup.size, setup.size)
    images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (setup.batch,), device=device)
    steps: dict[str, Callable[[], None]] = {}
    methods: dict[str, Any] = {}
    for name in ("vanilla", "automix", "fast"):
        method = build(name, setup.backbone)
        methods[name] = method.to(device).to(memory_format=torch.channels_last)
        if compiled:
            method.compile()
        steps[name] = training_step(method, images, labels, precision)
    for step in steps.values():  # warm up
        for _ in range(3):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(pairs):
        for name, step in steps.items():
            seconds[name].append(timed(step, device))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    activations = {name: peak_activations(methods[name], step, device) for name, step in steps.items()}
    floor = flop_floor(methods["automix"], images, labels)
    ratio = medians["automix"] / medians["vanilla"]
    return {
        "ratio": ratio,
        "floor": floor,
        "quotient": ratio / floor,
        "activation_ratio": activations["automix"] / activations["vanilla"],
        "fast_ratio": medians["fast"] / medians["vanilla"],
        "vanilla_seconds": medians["vanilla"],
        "automix_seconds": medians["automix"],
    }


def build(name: str, backbone: str) -> Any:
    """Return a method; the Mix Block of "fast" and the network it reads are frozen but untrained, at the same cost."""
    network = build_backbone(backbone, CLASSES)
    if name == "vanilla":
        return build_method(VanillaSettings(), network, CLASSES)
    block = MixBlock(stage_channels(network, AutoMixSettings().feature_layer))
    if name == "automix":
        return AutoMix(network, block)
    settings = AutoMixSettings(preset="fast", trained_mix_block="(made here)")
    method = AutoMix(network, block.requires_grad_(False), settings, feature_network=build_backbone(backbone, CLASSES))
    return method.train()


def training_step(method: Any, images: Tensor, labels: Tensor, precision: str) -> Callable[[], None]:
    """Return one whole step as a function without arguments."""
    optimizer = build_optimizer(method, OptimSettings(lr=0.01))
    generator = torch.Generator().manual_seed(0)
    device = images.device.type

    def backward(loss: Tensor) -> None:
        with torch.autocast(device, enabled=False):
            loss.backward()

    def step() -> None:
        method.set_progress(0, 1)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"):
            method.training_step(images, labels, generator=generator, backward=backward)
        optimizer.step()
        optimizer.zero_grad()
        method.after_step()

    return step


def timed(step: Callable[[], None], device: torch.device) -> float:
    """Return the seconds of one step."""
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def peak_activations(method: nn.Module, step: Callable[[], None], device: torch.device) -> float:
    """Return the bytes that a step holds for its backward passes at their peak."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    with saved_bytes(method) as meter:
        step()
    return meter["peak"]


def flop_floor(automix: AutoMix, images: Tensor, labels: Tensor) -> float:
    """Return the operations of the passes that an AutoMix step needs, over those of a vanilla step."""
    student, teacher = automix.student, automix.teacher.network
    layer, size = automix.settings.feature_layer, (images.shape[-2], images.shape[-1])
    index = torch.arange(len(images), device=images.device).flip(0)

    def vanilla() -> None:
        F.cross_entropy(student(images), labels).backward()

    def features() -> Tensor:
        with torch.no_grad():
            return stage_features(teacher, images, layer)

    def through_the_teacher() -> None:
        F.cross_entropy(teacher(images.clone().requires_grad_()), labels).backward()

    def mix_block() -> None:
        projection = automix.mix_block.project(features_of_images)
        with torch.no_grad():
            automix.mix_block.mask(projection, index, 0.5, size)
        mix(images, index, automix.mix_block.mask(projection, index, 0.5, size)).sum().backward()

    features_of_images = features()
    once = counted(vanilla)
    return (2 * once + counted(features) + counted(through_the_teacher) + counted(mix_block)) / once


def counted(call: Callable[[], object]) -> int:
    """Return the floating-point operations of the call."""
    with flop_counter() as counter:
        call()
    return counter.get_total_flops()


if __name__ == "__main__":
    main()
