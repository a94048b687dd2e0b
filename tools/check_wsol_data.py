#!/usr/bin/env python
"""Check a set for weakly supervised localisation: its CSV files, and if given its images and score maps.

Every mistake is printed with its file and line, then what there is; the exit status is 1 where there is a mistake.
METADATA holds image_ids.txt, class_labels.txt, image_sizes.txt and localization.txt, or a folder with them for each
split.

Examples:
  python tools/check_wsol_data.py my_set/metadata --data my_set
  python tools/check_wsol_data.py my_set/metadata --split test --scoremaps work_dirs/my_maps
"""

from __future__ import annotations

import argparse

from pretrain.console import run_tool


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metadata", metavar="METADATA", help="folder with the four files, or with one for each split")
    parser.add_argument("--data", metavar="ROOT", help="the images' folder: are all there, and of their sizes?")
    parser.add_argument("--split", choices=("train", "val", "test"), help="which split (default: all that are there)")
    parser.add_argument("--scoremaps", metavar="DIR", help="folder of IMAGE_ID.npy: one for each image, and no other?")
    return parser.parse_args()


def main() -> int:
    """Print what is wrong and what there is."""
    args = parse()

    from wsol.metadata.checking import check_set  # late: --help answers at once

    checked = check_set(args.metadata, args.split, args.data, args.scoremaps)
    for each in checked:
        for problem in each.problems:
            print(problem)
        mistakes = f"{len(each.problems):,} mistake{'s' if len(each.problems) > 1 else ''}"
        print(f"{each.folder}: {mistakes if each.problems else 'in order'}")
        for line in each.counts:
            print(f"  {line}")
    return int(any(each.problems for each in checked))


if __name__ == "__main__":
    run_tool(main)
