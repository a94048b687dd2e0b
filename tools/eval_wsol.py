#!/usr/bin/env python
"""Evaluate weakly supervised localisation: class activation maps and MaxBoxAccV2 on CUB_200_2011.

Examples:
  python tools/eval_wsol.py --checkpoint work_dirs/cub/automix/export/teacher.safetensors --data data/CUB_200_2011
  python tools/eval_wsol.py --checkpoint C --data CUB_ROOT --scoremaps DIR      also write the score maps
  python tools/eval_wsol.py --scoremaps DIR --metadata metadata/CUB             evaluate score maps on disk
"""

from __future__ import annotations

import argparse

from pretrain.console import UserError, run_tool


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="exported backbone (.safetensors, with its card beside it)")
    parser.add_argument("--data", help="root of CUB_200_2011 (images/, classes.txt, bounding_boxes.txt, ...)")
    parser.add_argument("--metadata", help="folder of wsolevaluation's four files, or of such folders for each split")
    parser.add_argument("--scoremaps", help="with --checkpoint: write score maps here; without: read them from here")
    parser.add_argument("--out", default="work_dirs/wsol", help="folder for wsol.json and overlays/ (%(default)s)")
    parser.add_argument("--split", default="test", help="train, val or test (%(default)s)")
    parser.add_argument("--input-size", type=int, default=224, help="images are resized to this square (%(default)s)")
    parser.add_argument("--interval", type=float, default=0.001, help="step of the score thresholds (%(default)s)")
    parser.add_argument("--stock", action="store_true", help="keep the last stage's stride; default: stride 1")
    parser.add_argument("--draw", type=int, default=0, metavar="N", help="draw N images with their maps and boxes")
    parser.add_argument("--random-weights", action="store_true", help="the control: the same network, untrained")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="images in a forward pass (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="threads that read images (%(default)s)")
    return parser.parse_args()


def main() -> None:
    """Evaluate, print the figures and write wsol.json."""
    args = parse()
    by_scoremaps = args.scoremaps and not args.checkpoint
    if not (by_scoremaps or (args.checkpoint and args.data)):
        raise UserError("give --checkpoint C --data CUB_ROOT, or --scoremaps DIR --metadata DIR; see --help")

    # Late: --help and wrong arguments answer at once.
    from wsol.evaluate import Settings, evaluate_checkpoint, evaluate_scoremaps
    from wsol.report import print_result, write_result

    names = ("split", "interval", "input_size", "stock", "device", "batch_size", "workers", "draw", "random_weights")
    settings = Settings(**{name: getattr(args, name) for name in names})
    if by_scoremaps:
        result = evaluate_scoremaps(args.scoremaps, args.out, args.metadata, args.data, settings)
    else:
        result = evaluate_checkpoint(args.checkpoint, args.data, args.out, args.metadata, args.scoremaps, settings)
    path = write_result(args.out, result)
    print_result(result)
    print(path)


if __name__ == "__main__":
    run_tool(main)
