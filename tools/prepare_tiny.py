"""Arrange Tiny-ImageNet as data/tiny: {train,val}/<wnid>/*.JPEG and the card.

Examples:
    python tools/prepare_tiny.py --download
    python tools/prepare_tiny.py --archives DIR
"""

from __future__ import annotations

from pretrain.console import run_tool
from pretrain.data.prepare.command import run
from pretrain.data.prepare.tiny import TINY


def main() -> None:
    """Arrange the data set and print what there is."""
    run([TINY], __doc__)


if __name__ == "__main__":
    run_tool(main)
