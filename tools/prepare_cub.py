"""Arrange CUB-200-2011 as data/cub200: {train,val}/<class>/*.jpg by the official split, and the card.

Examples:
    python tools/prepare_cub.py --download
    python tools/prepare_cub.py --extracted CUB_200_2011
"""

from __future__ import annotations

from pretrain.console import run_tool
from pretrain.data.prepare.command import run
from pretrain.data.prepare.cub import CUB


def main() -> None:
    """Arrange the data set and print what there is."""
    run([CUB], __doc__)


if __name__ == "__main__":
    run_tool(main)
