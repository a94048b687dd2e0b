"""Fine-tune Faster R-CNN in MMDetection from converted weights, evaluate it, and write results.json.

Examples:
  python tools/finetune_mmdet.py configs/quickstart/coco_r18_fpn.py --weights automix.pth --draw 8
  python tools/finetune_mmdet.py configs/quickstart/coco_r18_fpn.py --from-scratch --cfg-options train_cfg.max_iters=200
  torchrun --nproc-per-node 8 tools/finetune_mmdet.py configs/mmdet/faster-rcnn_r50-c4_voc0712.py --weights OUT.pth
  python tools/finetune_mmdet.py configs/mmdet/faster-rcnn_r50-c4_voc0712.py --weights OUT.pth --scale-to 2 --check
The same command goes on after an interruption, and returns at once when the run is finished.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pretrain.console import run_tool


def main() -> None:
    """Parse the command line, fine-tune, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a file of configs/mmdet or configs/quickstart")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--weights", type=Path, help="OUT.pth of tools/convert_to_mmdet.py")
    start.add_argument("--from-scratch", action="store_true", help="random weights")
    parser.add_argument("--data-root", type=Path, help="holds VOCdevkit/, coco/ (default: $DATA_ROOT or data/)")
    parser.add_argument("--work-dir", type=Path, help="folder (default: work_dirs/mmdet/CONFIG/START-seedSEED)")
    parser.add_argument("--check", action="store_true", help="compare config and weights, print both, train nothing")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm"), help="torchrun is found without it")
    parser.add_argument("--scale-to", type=int, metavar="N", help="N images a step, rate and schedule scaled with it")
    parser.add_argument("--seed", type=int, default=0, help="of new layers, picture order, sampling (default 0)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint with changed settings")
    parser.add_argument("--eval-only", action="store_true", help="evaluate the last checkpoint in the work directory")
    parser.add_argument("--checkpoint", type=Path, help="with --eval-only: this .pth of a run instead of the last one")
    parser.add_argument("--draw", type=int, default=0, metavar="N", help="draw N test pictures (WORK_DIR/detections/)")
    parser.add_argument("--draw-threshold", type=float, default=0.5, help="lowest score drawn (default %(default)s)")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], dest="options", metavar="K=V", help="settings that override the config"
    )
    args = vars(parser.parse_args())
    args.pop("from_scratch")
    check = args.pop("check")

    from transfer.mmdet.finetune import Job, check_only, finetune  # late: --help and wrong arguments answer at once

    if check:
        check_only(Job(**args))
    elif results := finetune(Job(**args)):  # empty on all but the first process
        figures = ", ".join(f"{key} {results[key]}" for key in ("AP", "AP50", "AP75"))
        print(f"{results['config']} from {results['start']}, seed {results['seed']}: {figures}")


if __name__ == "__main__":
    run_tool(main)
