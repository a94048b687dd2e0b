"""Write handwritten digits (scikit-learn's, 8x8 pixels) as folders of images, a few of each labelled for training.

Examples:
    python tools/prepare_digits.py --out data/digits
    python tools/prepare_digits.py --out data/digits5 --labelled 5 --seed 1
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pretrain.console import run_tool


def main() -> None:
    """Parse the command line, write the data and print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--labelled", type=int, default=10, metavar="N", help="training images a digit (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="decides which ones (%(default)s)")
    arguments = parser.parse_args()

    from pretrain.data.prepare.digits import write_digits  # late: --help answers at once

    card = write_digits(arguments.out, arguments.labelled, arguments.seed)
    print(f"digits: {arguments.out}, {card.images['train']} training and {card.images['val']} validation images")


if __name__ == "__main__":
    run_tool(main)
