"""What a training on the CPU costs with glibc's allocator as it is, and keeping the memory that each step frees.

The same steps (the study's network, batch and image size, one thread) run in processes of their own, since glibc reads
its variables once, at the start; with and without them take turns. Seconds are those of the CPU, user's and system's,
so that other work on the machine counts less.

    python benchmarks/allocator.py [--pairs 5] [--steps 60]

Writes work_dirs/bench/allocator.json: {"as_is": seconds, "kept": seconds, "ratio": median of kept / as_is, ...}.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))
from evidence.stages import ALLOCATOR
from pretrain.backbones import build_backbone
from pretrain.console import at_least_one
from pretrain.files import write_json

OUT = Path("work_dirs/bench/allocator.json")


def steps(number: int) -> float:
    """Return the CPU seconds of so many training steps, behind five that do not count."""
    torch.set_num_threads(1)
    network = build_backbone("slim_resnet18", num_classes=40).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    images = torch.rand(50, 3, 56, 56).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(40, (50,))
    started = 0.0
    for step in range(-5, number):
        if step == 0:
            started = time.process_time()
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return time.process_time() - started


def main() -> None:
    """Run the pairs, print and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=at_least_one, default=5)
    parser.add_argument("--steps", type=at_least_one, default=60)
    parser.add_argument("--child", action="store_true", help="only run the steps and print their seconds")
    arguments = parser.parse_args()
    if arguments.child:
        print(steps(arguments.steps))
        return
    command = [sys.executable, __file__, "--child", "--steps", str(arguments.steps)]
    plain = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    seconds: dict[str, list[float]] = {"as_is": [], "kept": []}
    for _ in range(arguments.pairs):
        for name, environment in (("as_is", plain), ("kept", {**plain, **ALLOCATOR})):
            out = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
            seconds[name].append(float(out))
    ratio = statistics.median(kept / as_is for as_is, kept in zip(*seconds.values(), strict=True))
    found = {name: statistics.median(values) for name, values in seconds.items()}
    write_json(OUT, {**found, "ratio": ratio, "pairs": arguments.pairs, "steps": arguments.steps})
    print(f"{arguments.steps} steps: {found['as_is']:.2f} s as it is, {found['kept']:.2f} s kept; ratio {ratio:.3f}")


if __name__ == "__main__":
    main()
