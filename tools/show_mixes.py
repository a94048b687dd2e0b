"""Draw what each mixing method makes of the same pairs of images: mixes, masks and label weights over lambda.

Examples:
    python tools/show_mixes.py cat.jpg dog.jpg bird.jpg boat.jpg
    python tools/show_mixes.py *.jpg --methods puzzlemix comixup --network RUN/export/model.safetensors
    python tools/show_mixes.py *.jpg --network resnet50.tv_in1k --transformer deit_small_patch16_224.fb_in1k

Neighbours are mixed: the first image with the second, the third with the fourth. Methods that follow a network need a
trained one: an exported backbone, or the name of one of timm's pretrained networks, which timm downloads once. Without
it they are named and left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pretrain.console import run_tool


def main() -> None:
    """Parse the command line and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, help="an even number of image files")
    parser.add_argument(
        "--methods", nargs="+", default=["all"], metavar="NAME", help="of pretrain.mixups (default: all)"
    )
    parser.add_argument("--lambdas", nargs="+", type=float, help="shares of the first image of a pair, each in [0, 1]")
    parser.add_argument("--network", help="for saliency, attention of a frozen network, and SuperMix's teacher")
    parser.add_argument("--transformer", help="for TransMix, a vision transformer with a class token")
    parser.add_argument("--size", type=int, default=224, help="short side and crop, pixels (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn beside lambda (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/mixes.png"), help="the picture (%(default)s)")
    arguments = parser.parse_args()

    # Late: --help and wrong arguments answer at once.
    from pretrain.gallery import DRAWN_LAMBDAS, show_mixes

    left_out = show_mixes(
        arguments.images,
        arguments.out,
        arguments.methods,
        arguments.lambdas or DRAWN_LAMBDAS,
        arguments.network,
        arguments.transformer,
        arguments.size,
        arguments.seed,
    )
    print(f"mixes: {arguments.out}")
    for name, reason in left_out.items():
        print(f"  left out: {name}, {reason}")


if __name__ == "__main__":
    run_tool(main)
