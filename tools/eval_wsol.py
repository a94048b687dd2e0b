#!/usr/bin/env python
"""Evaluate weakly supervised localisation: class activation maps and MaxBoxAccV2, on CUB or on any set with its files.

Examples:
  python tools/eval_wsol.py --checkpoint work_dirs/cub/automix/export/teacher.safetensors --data data/cub200
  python tools/eval_wsol.py --checkpoint C --data ROOT --scoremaps DIR           also write the score maps
  python tools/eval_wsol.py --scoremaps DIR --metadata metadata/CUB              evaluate score maps on disk
  python tools/eval_wsol.py --checkpoint timm:resnet50.tv_in1k --data ILSVRC --metadata metadata/ILSVRC
  python tools/eval_wsol.py --checkpoint vit.pth --arch timm:vit_small_patch16_224 --data ROOT --cam gradcam
  torchrun --nproc-per-node 8 tools/eval_wsol.py --checkpoint C --data ROOT      on eight GPUs
"""

from __future__ import annotations

import argparse

from pretrain.console import UserError, run_tool

IN_SETTINGS = (
    *("split", "threshold_from", "interval", "input_size", "output_stride", "cam", "label", "device", "batch_size"),
    *("workers", "draw", "sheet", "random_weights"),
)
OF_NETWORK = ("arch", "input_size", "output_stride", "cam", "label", "device", "batch_size", "random_weights")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--checkpoint", help="exported backbone (.safetensors), timm:NAME, torchvision:NAME, or a file beside --arch")
    add("--arch", help="architecture of a file that does not say it: timm:NAME or torchvision:NAME")
    add("--data", help="root of the images: CUB_200_2011, what tools/prepare_cub.py made, or any with --metadata")
    add("--metadata", help="folder of wsolevaluation's files, or of such folders for each split")
    add("--masks", help="folder of the masks, where the truth is masks (default: --data)")
    add("--scoremaps", help="with --checkpoint: write score maps here; without: read them from here")
    add("--out", default="work_dirs/wsol", help="folder for figures, tables and pictures (%(default)s)")
    add("--split", default="test", help="train, val or test (%(default)s)")
    add("--threshold-from", default="auto", help="val, none, or auto: val where it is there (%(default)s)")
    add("--interval", type=float, default=0.001, help="step of the score thresholds (%(default)s)")
    add("--input-size", type=int, default=224, help="images are resized to this square (%(default)s)")
    add("--output-stride", default="16", help="16: 14x14 maps at 224; 8: 28x28; stock: as trained (%(default)s)")
    add("--cam", default="cam", help="cam, gradcam, gradcam++, layercam or scorecam (%(default)s)")
    add("--label", default="true", help="the class of the map: true or predicted (%(default)s)")
    add("--draw", type=int, default=0, metavar="N", help="draw N images with their maps and boxes")
    add("--sheet", type=int, default=8, metavar="N", help="N best and N worst cases on the contact sheet (%(default)s)")
    add("--random-weights", action="store_true", help="the control: the same network, untrained")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 (%(default)s)")
    add("--batch-size", type=int, default=32, help="images in a forward pass (%(default)s)")
    add("--workers", type=int, default=2, help="threads that read, and threads that measure (%(default)s)")
    args = parser.parse_args()
    given = [f"--{name.replace('_', '-')}" for name in OF_NETWORK if getattr(args, name) != parser.get_default(name)]
    if args.scoremaps and not args.checkpoint and given:
        raise UserError(f"{', '.join(given)}: about a network, and score maps from disk have none; give --checkpoint")
    return args


def main() -> None:
    """Evaluate, print the figures and write them."""
    args = parse()
    by_scoremaps = args.scoremaps and not args.checkpoint
    if not (by_scoremaps or (args.checkpoint and args.data)):
        raise UserError("give --checkpoint C --data ROOT, or --scoremaps DIR --metadata DIR; see --help")

    # Late: --help and wrong arguments answer at once.
    from wsol.counting.ranks import of_torchrun
    from wsol.evaluate import evaluate_checkpoint, evaluate_scoremaps
    from wsol.report import print_result, write_result
    from wsol.settings import Settings

    common = {
        "metadata": args.metadata,
        "masks": args.masks,
        "settings": Settings(**{name: getattr(args, name) for name in IN_SETTINGS}),
    }
    with of_torchrun() as ranks:
        if by_scoremaps:
            result = evaluate_scoremaps(args.scoremaps, args.out, data=args.data, ranks=ranks, **common)
        else:
            maps = {"scoremaps": args.scoremaps, "arch": args.arch}
            result = evaluate_checkpoint(args.checkpoint, args.data, args.out, ranks=ranks, **maps, **common)
        if ranks.first:
            path = write_result(args.out, result)
            print_result(result)
            print(path)


if __name__ == "__main__":
    run_tool(main, again="starts over")
