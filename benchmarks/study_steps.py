"""Cost of a training step of each way of training in the study (docs/study.md), over a vanilla step, on one thread.

A step is losses, backward, optimizer and moving average; reading the images is not part of it. Those of a source take
turns in one process, so that a machine whose speed drifts slows all alike, and their time is the CPU's, so that other
work does so less; the mean step counts, since PuzzleMix's differ. Preset "fast" has a Mix Block that is trained
already: what that took is not in it. Training "3 times as long" counts three times.

    python benchmarks/study_steps.py [--rounds 20] [--out docs/study_cost.json]

Writes work_dirs/bench/study_steps.json, or what --out names: {source: {condition: ratio}}. The study's tables and
pictures have docs/study_cost.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from automix_step import training_step
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from evidence.stages import ROOT
from evidence.study.plan import CONDITIONS, SOURCES, Condition, Source
from pretrain.automix import AutoMix, AutoMixSettings, MixBlock
from pretrain.backbones import build_backbone, stage_channels
from pretrain.console import at_least_one, tell
from pretrain.files import write_json
from pretrain.training.methods import method_of
from pretrain.training.settings import load_settings

OUT = Path("work_dirs/bench/study_steps.json")
CLASSES = 40


def main() -> None:
    """Measure, print and write the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=at_least_one, default=20, help="timed steps of each (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FILE.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {source.key: measure(source, arguments.rounds) for source in SOURCES}
    for source in SOURCES:
        print(f"{source.title}: a step over vanilla's")
        for key, ratio in found[source.key].items():
            print(f"    {key:16} {ratio:.2f}")
    write_json(arguments.out, {key: {name: round(ratio, 3) for name, ratio in of.items()} for key, of in found.items()})


def measure(source: Source, rounds: int) -> dict[str, float]:
    """Return the ratio of every condition, by its key."""
    torch.manual_seed(0)
    settings = load_settings(ROOT / source.config)
    size = settings.data.transform.size
    images = torch.randn(settings.data.batch_size, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (len(images),))
    steps = {each.key: training_step(method_for(source, each), images, labels, "fp32") for each in CONDITIONS}
    seconds: dict[str, list[float]] = {key: [] for key in steps}
    for number in range(-2, rounds):
        for key, step in steps.items():
            started = time.process_time()
            step()
            if number >= 0:  # before: warming up
                seconds[key].append(time.process_time() - started)
        if number >= 0 and number % 10 == 9:
            tell(f"{source.title}: {number + 1} of {rounds} rounds")
    base = statistics.mean(seconds["vanilla"])
    return {key: statistics.mean(taken) / base for key, taken in seconds.items()}


def method_for(source: Source, condition: Condition) -> nn.Module:
    """Build what the condition trains, from random weights; a trained Mix Block is a frozen random one."""
    trained = {"method.trained_mix_block": "any"} if condition.needs else {}
    settings = load_settings(ROOT / source.config, {**condition.options, **trained}, condition.method)
    if isinstance(settings.method, AutoMixSettings) and settings.method.trained_mix_block:
        network, features = (build_backbone(settings.backbone.name, CLASSES) for _ in range(2))
        block = MixBlock(stage_channels(network, settings.method.feature_layer)).requires_grad_(False)
        method: nn.Module = AutoMix(network, block, settings.method, feature_network=features)
    else:
        method = method_of(settings, CLASSES)
    return method.train().to(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
