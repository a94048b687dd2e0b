"""Fine-tune Faster R-CNN in MMDetection from converted weights, evaluate it, and write results.json.

Examples:
  python tools/finetune_mmdet.py configs/quickstart/coco_r18_fpn.py --weights automix.pth --draw 8
  python tools/finetune_mmdet.py configs/quickstart/coco_r18_fpn.py --from-scratch --seed 1 --work-dir work_dirs/r1
  torchrun --nproc-per-node 8 tools/finetune_mmdet.py configs/mmdet/faster-rcnn_r50-c4_voc0712.py --launcher pytorch
      --weights OUT.pth --data-root data
The same command goes on after an interruption, and returns at once when the run is finished.
"""

from __future__ import annotations

import argparse

from pretrain.console import run_tool


def main() -> None:
    """Parse the command line, fine-tune, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="a file of configs/mmdet or configs/quickstart")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--weights", help="OUT.pth of tools/convert_to_mmdet.py")
    start.add_argument("--from-scratch", action="store_true", help="random weights")
    parser.add_argument("--data-root", help="folder that holds VOCdevkit/ and coco/ (default: the configuration's)")
    parser.add_argument("--work-dir", help="where everything is written (default: work_dirs/NAME_OF_CONFIG)")
    parser.add_argument("--seed", type=int, default=0, help="of new layers, image order, sampled regions (default 0)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint with changed settings")
    parser.add_argument("--eval-only", action="store_true", help="evaluate the work directory's last checkpoint")
    parser.add_argument("--draw", type=int, default=0, metavar="N", help="draw detections on N images (in detections/)")
    parser.add_argument("--draw-threshold", type=float, default=0.5, help="lowest score drawn (default %(default)s)")
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm"), default="none")
    parser.add_argument(
        "--cfg-options", nargs="+", default=[], dest="options", metavar="K=V", help="override entries of the config"
    )
    args = vars(parser.parse_args())
    args.pop("from_scratch")

    from transfer.mmdet.finetune import Job, finetune  # late: --help and wrong arguments answer at once

    job = Job(**args)
    results = finetune(job)
    figures = ", ".join(f"{key} {results[key]}" for key in ("AP", "AP50", "AP75"))
    print(f"{results['config']} from {results['start']}, seed {results['seed']}: {figures}")


if __name__ == "__main__":
    run_tool(main)
