"""Draw test pictures: the true boxes, and beside them what finished runs of tools/finetune_d2.py detect.

Examples:
  python tools/draw_detections.py work_dirs/d2/voc_r50_c4_24k/automix-teacher-seed0
  python tools/draw_detections.py RUNS/vanilla-seed0 RUNS/automix-teacher-seed0 --images 000001 000004 --out compared
  python tools/draw_detections.py RUN --number 20 --threshold 0.3 --checkpoint model_0019999.pth
One PNG a picture, and contact_sheet.png. A class has one colour; a right detection (IoU 0.5 or more) is solid, a false
one dashed, a missed object dotted in white.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pretrain.console import UserError, run_tool


def main() -> None:
    """Parse the command line and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_FOLDER", help="one panel each, from left to right")
    parser.add_argument(
        "--data-root", type=Path, help="holds VOCdevkit/, coco/ ($DATA_ROOT, $DETECTRON2_DATASETS or data/)"
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--number", type=int, default=8, help="the first N test pictures (default %(default)s)")
    chosen.add_argument("--images", nargs="+", default=[], metavar="ID", help="these pictures, by id or file name")
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest score drawn (default %(default)s)")
    parser.add_argument("--checkpoint", default="model_final.pth", help="file of the run folder (default %(default)s)")
    parser.add_argument("--out", type=Path, help="folder (default: drawn/ in the first run folder)")
    arguments = parser.parse_args()
    if arguments.number < 1:
        raise UserError(f"--number {arguments.number}: it must be 1 or more")
    if not 0 <= arguments.threshold <= 1:
        raise UserError(f"--threshold {arguments.threshold}: scores lie between 0 and 1")

    from transfer.d2.draw import draw_runs  # late: --help and wrong arguments answer at once

    written = draw_runs(
        arguments.runs,
        arguments.data_root,
        arguments.number,
        arguments.images,
        arguments.threshold,
        arguments.checkpoint,
        arguments.out,
    )
    print(f"{len(written) - 1} pictures and {written[-1]}")


if __name__ == "__main__":
    run_tool(main)
