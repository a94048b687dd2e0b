"""Unpack PASCAL VOC 2007 and 2012 as DIR/VOCdevkit, and check it: lists, annotations, boxes, sizes of the pictures.

Without an archive only what is there is checked; the address of what is not there is told. The exit status is 2 if
anything is wrong: every problem is counted, the first few of each kind are named with file and object.

Examples:
  python tools/prepare_voc.py VOCtrainval_06-Nov-2007.tar VOCtest_06-Nov-2007.tar VOCtrainval_11-May-2012.tar --out data
  python tools/prepare_voc.py --out data                      only check what is there
  python tools/prepare_voc.py --download archives --out data  fetch what is not in archives/
  python tools/prepare_voc.py --out demo --subset             another set in the same layout, such as the demo
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
    from transfer.prepare.command import prepare_voc

    prepare_voc(args.archives, args.out, args.download, args.subset)


if __name__ == "__main__":
    run_tool(main)
