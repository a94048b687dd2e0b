"""Fine-tune Faster or Mask R-CNN in Detectron2 from converted weights, evaluate it, and write results.json.

Examples:
  python tools/finetune_d2.py --config configs/quickstart/voc_r18_fpn.yaml --weights automix_fpn.pth --draw 6
  python tools/finetune_d2.py --config configs/quickstart/voc_r18_fpn.yaml --from-scratch SOLVER.BASE_LR 0.01
  python tools/finetune_d2.py --config configs/d2/voc_r50_c4_24k.yaml --weights OUT.pth --num-gpus 8 --seed 1
  python tools/finetune_d2.py --config configs/d2/voc_r50_c4_24k.yaml --weights OUT.pth --scale-to 2 --check
The same command goes on after an interruption, and returns at once when the run is finished.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pretrain.console import run_tool


def main() -> None:
    """Parse the command line, fine-tune, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="a YAML of configs/d2 or configs/quickstart")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--weights", type=Path, help="OUT.pth of tools/convert_to_d2.py")
    start.add_argument("--from-scratch", action="store_true", help="random weights")
    parser.add_argument(
        "--data-root", type=Path, help="holds VOCdevkit/, coco/ ($DATA_ROOT, $DETECTRON2_DATASETS or data/)"
    )
    parser.add_argument("--output", type=Path, help="folder (default: work_dirs/d2/CONFIG/START-seedSEED)")
    parser.add_argument("--check", action="store_true", help="compare config and weights, print both, train nothing")
    parser.add_argument("--num-gpus", type=int, help="of this machine; default: one, or the CPU where there is none")
    parser.add_argument("--num-machines", type=int, default=1, help="each runs the same command (default 1)")
    parser.add_argument("--machine-rank", type=int, default=0, help="of this machine, from 0 (default 0)")
    parser.add_argument("--dist-url", default="auto", help="tcp://HOST:PORT of machine 0, where there are several")
    parser.add_argument("--scale-to", type=int, metavar="N", help="N images a step, rate and schedule scaled with it")
    parser.add_argument("--seed", type=int, default=0, help="of new layers, picture order, sampling (default 0)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint with changed settings")
    parser.add_argument("--eval-only", action="store_true", help="evaluate the last checkpoint in the output folder")
    parser.add_argument("--checkpoint", type=Path, help="with --eval-only: this .pth of a run instead of the last one")
    parser.add_argument("--draw", type=int, default=0, metavar="N", help="draw N test pictures (OUTPUT/detections/)")
    parser.add_argument("--draw-threshold", type=float, default=0.5, help="lowest score drawn (default %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="settings that override the config")
    args = vars(parser.parse_intermixed_args())
    args.pop("from_scratch")
    check = args.pop("check")

    from transfer.d2.finetune import Job, check_only, finetune  # late: --help and wrong arguments answer at once

    if check:
        check_only(Job(**args))
    elif results := finetune(Job(**args)):  # empty on all but the first machine
        figures = ", ".join(f"{key} {results[key]}" for key in ("AP", "AP50", "AP75"))
        print(f"{results['config']} from {results['start']}, seed {results['seed']}: {figures}")


if __name__ == "__main__":
    run_tool(main)
