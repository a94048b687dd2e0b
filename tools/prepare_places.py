"""Arrange Places205 as data/places205: {train,val}/<scene>/*.jpg and the card.

The images' archive may be that of the original images or of the resized ones.

Examples:
    python tools/prepare_places.py --archives DIR
    python tools/prepare_places.py --archives DIR --extracted DIR
"""

from __future__ import annotations

from pretrain.console import run_tool
from pretrain.data.prepare.command import run
from pretrain.data.prepare.places import PLACES


def main() -> None:
    """Arrange the data set and print what there is."""
    run([PLACES], __doc__)


if __name__ == "__main__":
    run_tool(main)
