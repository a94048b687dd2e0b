"""Pack a data set of image files into a few large tar files, webdataset's shards, for file systems slow to open files.

Examples:
    python tools/shard_dataset.py data/imagenet data/imagenet_shards
    tools/pretrain.sh configs/pretrain/imagenet/r50_100ep.py 8 --cfg-options data.root=data/imagenet_shards

Training from them is the same bit for bit. The same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pretrain.console import UserError, run_tool


def main() -> None:
    """Parse the command line, pack and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the data set: train/<class>/ and val/<class>/")
    parser.add_argument("out", type=Path, help="folder for the shards")
    parser.add_argument("--shard-size", type=float, default=500, metavar="MB", help="of a tar file (default: 500)")
    arguments = parser.parse_args()
    if not arguments.shard_size > 0:
        raise UserError(f"--shard-size {arguments.shard_size:g}: give a number of megabytes above 0, such as 500")

    # Late: --help and wrong arguments answer at once.
    from pretrain.data.packing import shard_dataset

    written = shard_dataset(arguments.root, arguments.out, int(arguments.shard_size * 1e6))
    print(f"shards: {arguments.out}")
    for split, (images, shards) in written.items():
        print(f"  {split:6} {images:9,} images in {shards:,} files")


if __name__ == "__main__":
    run_tool(main)
