"""Unpack COCO 2017 as DIR/coco, and check it: ids, boxes, outlines, categories, sizes of the pictures.

Without an archive only what is there is checked; the address of what is not there is told. The exit status is 2 if
anything is wrong: every problem is counted, the first few of each kind are named with file and id.

Examples:
  python tools/prepare_coco.py train2017.zip val2017.zip annotations_trainval2017.zip --out data
  python tools/prepare_coco.py --out data                      only check what is there
  python tools/prepare_coco.py --download archives --out data  fetch what is not in archives/: 20 GB
  python tools/prepare_coco.py --out demo --subset             another set in the same layout, such as the demo
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pretrain.console import run_tool


def main() -> None:
    """Parse the command line, unpack, check, and print what there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", nargs="*", type=Path, metavar="ARCHIVE", help="official archives to unpack")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder of the data sets ($DATA_ROOT, $DETECTRON2_DATASETS or data/)"
    )
    parser.add_argument(
        "--download", type=Path, metavar="DIR", help="take all other archives from DIR, fetch missing ones"
    )
    parser.add_argument(
        "--subset", action="store_true", help="another set in the same layout: do not compare with the official counts"
    )
    args = parser.parse_args()
    from transfer.prepare.command import prepare_coco

    prepare_coco(args.archives, args.out, args.download, args.subset)


if __name__ == "__main__":
    run_tool(main)
