"""Arrange iNaturalist 2017 or 2018 as data/inat2017 or data/inat2018: {train,val}/<category>/*.jpg and the card.

Examples:
    python tools/prepare_inat.py inat2018 --download
    python tools/prepare_inat.py inat2017 --archives DIR
"""

from __future__ import annotations

from pretrain.console import run_tool
from pretrain.data.prepare.command import run
from pretrain.data.prepare.inat import INAT2017, INAT2018


def main() -> None:
    """Arrange the data set and print what there is."""
    run([INAT2017, INAT2018], __doc__)


if __name__ == "__main__":
    run_tool(main)
