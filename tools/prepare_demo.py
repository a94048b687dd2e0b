"""Write the semi-synthetic demo data: drawings on photographs, as ImageFolder, VOC, COCO and CUB_200_2011.

Examples:
    python tools/prepare_demo.py --out work_dirs/quickstart/data
    python tools/prepare_demo.py --out work_dirs/quickstart/data --sheet demo.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pretrain.console import run_tool
from pretrain.data.demo import write_demo
from pretrain.data.demo.sheet import draw_sheet


def main() -> None:
    """Parse the command line, write the data, and draw the contact sheet if asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the four sets; about 25 MB")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes (default: 0)")
    parser.add_argument("--sheet", type=Path, help="also draw a contact sheet of the four sets into this PNG")
    arguments = parser.parse_args()
    summary = write_demo(arguments.out, arguments.seed)
    state = "already complete" if summary.already_complete else "written"
    print(f"demo data {state}: {summary.root}")
    for name, number in summary.counts.items():
        print(f"  {name:22} {number:5} pictures")
    print(f"  licences and sources: {summary.root / 'ATTRIBUTION.md'}")
    if arguments.sheet:
        draw_sheet(arguments.out, arguments.sheet)
        print(f"  contact sheet: {arguments.sheet}")


if __name__ == "__main__":
    run_tool(main)
