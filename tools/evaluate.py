"""Evaluate a pretrained checkpoint: accuracy, calibration, robustness, accuracy on mixed images, and pictures.

Examples:
    python tools/evaluate.py work_dirs/cifar100/r18_800ep/automix                     a run: its result
    python tools/evaluate.py RUN/export/student.safetensors --metrics accuracy ece    one of its networks
    python tools/evaluate.py RUN --cifar-c CIFAR-100-C --out evaluation/automix       corrupted images too
    python tools/evaluate.py CHECKPOINT --data data/cifar100 --device cuda:1

Metrics: accuracy (top-1, top-5), ece (calibration), fgsm (error under attack), mixed (accuracy on mixed images),
corruption (CIFAR-10-C, CIFAR-100-C), cam (Grad-CAM of mixed images), masks (of the Mix Block). "all" is what is
possible for the checkpoint; what is left out is named with the reason. docs/evaluation.md says what each figure means.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pretrain.console import run_tool


def main() -> None:
    """Parse the command line, evaluate, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("checkpoint", type=Path, help="an exported backbone (.safetensors), or the folder of a run")
    add("--metrics", nargs="+", default=["all"], metavar="NAME", help="see above (default: all)")
    add("--data", type=Path, help="folder with val/<class>/ (default: that of the training)")
    add("--cifar-c", type=Path, metavar="FOLDER", help="the .npy files of CIFAR-10-C or CIFAR-100-C")
    add("--out", type=Path, help="folder for figures and pictures (default: RUN/evaluation; beside a file)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: the GPU where there is one)")
    add("--batch-size", type=int, help="images in a forward pass (default: that of the training, at most 256)")
    arguments = parser.parse_args()

    # Late: --help and wrong arguments answer at once.
    from pretrain.evaluation.evaluate import evaluate
    from pretrain.evaluation.report import print_result

    print_result(evaluate(**vars(arguments)))


if __name__ == "__main__":
    run_tool(main, again="starts over")
