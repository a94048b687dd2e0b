"""Arrange FGVC-Aircraft as data/aircraft: train/<variant>/ (trainval), val/<variant>/ (test), and the card.

Examples:
    python tools/prepare_aircraft.py --download
    python tools/prepare_aircraft.py --extracted fgvc-aircraft-2013b
"""

from __future__ import annotations

from pretrain.console import run_tool
from pretrain.data.prepare.aircraft import AIRCRAFT
from pretrain.data.prepare.command import run


def main() -> None:
    """Arrange the data set and print what there is."""
    run([AIRCRAFT], __doc__)


if __name__ == "__main__":
    run_tool(main)
