"""Arrange CIFAR-10 or CIFAR-100 as data/cifar10 or data/cifar100: {train,val}/<class>/00042.png and the card.

Examples:
    python tools/prepare_cifar.py cifar100 --download
    python tools/prepare_cifar.py cifar10 --archives DIR --fraction 0.1 --out data/cifar10_tenth
"""

from __future__ import annotations

from pretrain.console import run_tool
from pretrain.data.prepare.cifar import CIFAR10, CIFAR100
from pretrain.data.prepare.command import run


def main() -> None:
    """Arrange the data set and print what there is."""
    run([CIFAR10, CIFAR100], __doc__)


if __name__ == "__main__":
    run_tool(main)
