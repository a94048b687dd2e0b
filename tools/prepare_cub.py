"""Arrange CUB-200-2011 as data/cub200: {train,val}/<class>/*.jpg by the official split, the card, and the true boxes.

The boxes are data/cub200/metadata/{train,test}, in wsolevaluation's layout, for tools/eval_wsol.py --data data/cub200.
With CUBV2 there is metadata/val too, on which score thresholds can be chosen; its images go to data/cub200/cubv2.

Examples:
    python tools/prepare_cub.py --download
    python tools/prepare_cub.py --extracted CUB_200_2011
    python tools/prepare_cub.py --download --cubv2 CUBV2.tar --cubv2-metadata wsolevaluation
"""

from __future__ import annotations

from pretrain.console import run_tool
from pretrain.data.prepare.cub import CUB
from pretrain.data.prepare.cub_boxes import run


def main() -> None:
    """Arrange the data set and print what there is."""
    run(CUB, __doc__)


if __name__ == "__main__":
    run_tool(main)
