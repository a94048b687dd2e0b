"""Cost of a whole training step with each mixing method over a vanilla step, and of other libraries' MixUp and CutMix.

A step is mixing, losses, backward and optimizer. All take turns in one process, so that a machine whose speed
drifts slows all alike. "ratio" is that of the median steps, "of means" that of the mean steps, for methods whose steps
differ (PuzzleMix has four grids). "mix ms" is the median time of the policy alone, saliency and frozen networks
included. Methods that ask for attention are measured on a small DeiT. AugMix's views are made by the loader and
measured apart, on one thread. SuperMix works offline (tools/supermix_generate.py).

    python benchmarks/mixups.py [--rounds 20] [--setups NAME ...] [--methods NAME ...]

Writes work_dirs/bench/mixups.json: {setup: {method: {ratio, ratio_of_means, step_seconds, mix_seconds}}}, and
{"views": {size: seconds an image}}.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm.data.mixup as timm_mixup
import torch
from automix_step import CLASSES, DEFAULT, SETUPS, Setup, timed, training_step
from kornia import augmentation
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.transforms import v2

from pretrain import mixups
from pretrain.backbones import build_backbone
from pretrain.console import at_least_one
from pretrain.files import write_json
from pretrain.mixups import MixResult
from pretrain.mixups.augmix import AugMix
from pretrain.mixups.policy import one_hot
from pretrain.training.methods import Classification

OUT = Path("work_dirs/bench/mixups.json")
TRANSFORMER = "deit_tiny_patch16_224"  # for methods that ask for attention
FROZEN = "resnet50"  # AttentiveMix's, at 224 pixels
OFFLINE = ("supermix",)


def main() -> None:
    """Measure, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=at_least_one, default=20, help="timed steps of each method (%(default)s)")
    parser.add_argument("--setups", nargs="+", choices=SETUPS, default=DEFAULT, help="default: %(default)s")
    known = [name for name in mixups.POLICIES if name not in OFFLINE]
    parser.add_argument("--methods", nargs="+", choices=known, default=known, help="default: all")
    arguments = parser.parse_args()

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    results = {name: measure(SETUPS[name], arguments.methods, arguments.rounds, device) for name in arguments.setups}
    views = {size: views_seconds(size) for size in (32, 64, 224)} if "augmix" in arguments.methods else {}
    write_json(OUT, {**results, "views": views})
    for name, found in results.items():
        title = f"A step over vanilla's: {name}, {where}, torch {torch.__version__}"
        table = Table(title=title, title_justify="left")
        for heading in ("method", "step ms", "ratio", "of means", "mix ms"):
            table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
        for method, row in found.items():
            milliseconds = [f"{1000 * row[key]:.1f}" for key in ("step_seconds", "mix_seconds")]
            ratios = [f"{row[key]:.3f}" for key in ("ratio", "ratio_of_means")]
            table.add_row(method, milliseconds[0], *ratios, milliseconds[1])
        Console(width=100).print(table)
    for size, seconds in views.items():
        print(f"AugMix's views of an image of {size} pixels, in a loader: {1000 * seconds:.2f} ms")


def measure(setup: Setup, names: list[str], rounds: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Return ratio, seconds of a step and seconds of the mixing alone, for every method."""
    torch.manual_seed(0)
    shape = (setup.batch, 3, setup.size, setup.size)
    images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (setup.batch,), device=device)
    frozen = build_backbone(FROZEN, CLASSES).eval().requires_grad_(False).to(device)
    runs = {name: Run(name, policy, setup, images, labels, frozen) for name, policy in policies(names).items()}
    for run in runs.values():  # warm up
        for _ in range(2):
            run.step()
    for _ in range(rounds):
        for run in runs.values():
            run.step_seconds.append(timed(run.step, device))
            run.mix_seconds.append(timed(run.mix, device))
    return {
        name: {
            "ratio": statistics.median(run.step_seconds) / statistics.median(runs[run.baseline].step_seconds),
            "ratio_of_means": statistics.mean(run.step_seconds) / statistics.mean(runs[run.baseline].step_seconds),
            "step_seconds": statistics.median(run.step_seconds),
            "mix_seconds": statistics.median(run.mix_seconds),
        }
        for name, run in runs.items()
    }


def views_seconds(size: int, images: int = 200) -> float:
    """Return the mean seconds of AugMix's views of an image, on one thread."""
    policy, generator = AugMix(), torch.Generator().manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    image = torch.randint(0, 256, (3, size, size), dtype=torch.uint8)
    started = time.perf_counter()
    for _ in range(images):
        policy.views(image, generator)
    seconds = time.perf_counter() - started
    torch.set_num_threads(threads)
    return seconds / images


def policies(names: list[str]) -> dict[str, Any]:
    """Return the methods by name, vanilla first, others' MixUp and CutMix after ours."""
    chosen: dict[str, Any] = {"vanilla": None}
    if any("attention" in mixups.build(name).needs for name in names):
        chosen["vanilla, DeiT"] = None
    for name in names:
        chosen[name] = mixups.build(name)
        chosen |= {f"{name} of {library}": policy for library, policy in OTHERS.get(name, {}).items()}
    return chosen


class Run:
    """A method with a network of its own, and its times."""

    def __init__(self, name: str, policy: Any, setup: Setup, images: Tensor, labels: Tensor, frozen: nn.Module) -> None:
        transformer = "attention" in needs(policy) or name == "vanilla, DeiT"
        self.baseline = "vanilla, DeiT" if transformer else "vanilla"
        network = transformer_for(setup) if transformer else build_backbone(setup.backbone, CLASSES)
        method = Classification(network, CLASSES, policy, frozen=frozen if "features" in needs(policy) else None)
        method = method.to(images.device).to(memory_format=torch.channels_last)
        if policy and policy.views:  # three of an image, from the loader
            images = torch.stack([images, images.flip(3), images.flip(2)], dim=1)
        self.step = training_step(method, images, labels, "fp32")
        targets, generator = one_hot(labels, CLASSES), torch.Generator().manual_seed(0)
        self.mix = lambda: policy and policy(images, targets, method.context, generator)
        self.step_seconds: list[float] = []
        self.mix_seconds: list[float] = []


def needs(policy: Any) -> tuple[str, ...]:
    """Return what a method asks of its context."""
    return policy.needs if policy else ()


def transformer_for(setup: Setup) -> nn.Module:
    """Return a small DeiT with 4x4 patches at 32 pixels, 8x8 at 64, 16x16 at 224."""
    patch = 16 if setup.size == 224 else setup.size // 8
    return build_backbone(TRANSFORMER, CLASSES, img_size=setup.size, patch_size=patch)


class Foreign:
    """Another library's MixUp or CutMix as a policy, with random draws of its own."""

    mixes_images, needs, views = True, (), None

    def __init__(self, mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
        self.mix = mix

    def __call__(self, images: Tensor, targets: Tensor, context: object, generator: object) -> MixResult:
        """Mix a batch; its partners are not known."""
        mixed, soft_targets = self.mix(images, targets.argmax(dim=1))
        return MixResult(mixed, None, None, None, soft_targets)


def of_timm(mixup_alpha: float, cutmix_alpha: float) -> Foreign:
    """Return timm's, which mixes in place: it gets a copy, as a training loop that keeps its images would give it."""
    mixer = timm_mixup.Mixup(mixup_alpha, cutmix_alpha, label_smoothing=0.0, num_classes=CLASSES)

    def mix(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mixed = images.clone()
        lam = mixer._mix_batch(mixed)
        return mixed, timm_mixup.mixup_target(labels, CLASSES, lam, 0.0)

    return Foreign(mix)


def of_kornia(transform: Any) -> Foreign:
    """Return kornia's, whose labels are (y_i, y_j, share of j) for each image."""

    def mix(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        mixed, triples = transform(images, labels)
        triples = triples.view(-1, 3)
        own, other = (one_hot(triples[:, k].long(), CLASSES) for k in (0, 1))
        return mixed, torch.lerp(own, other, triples[:, 2:])

    return Foreign(mix)


OTHERS: dict[str, dict[str, Any]] = {
    "mixup": {
        "timm": of_timm(1.0, 0.0),
        "torchvision": Foreign(v2.MixUp(num_classes=CLASSES)),
        "kornia": of_kornia(augmentation.RandomMixUpV2(data_keys=["input", "class"])),
    },
    "cutmix": {
        "timm": of_timm(0.0, 1.0),
        "torchvision": Foreign(v2.CutMix(num_classes=CLASSES)),
        "kornia": of_kornia(augmentation.RandomCutMixV2(data_keys=["input", "class"], use_correct_lambda=True)),
    },
}


if __name__ == "__main__":
    main()
