"""Write one page about pretraining runs: curves, tables, pictures, settings, and what followed from them.

Examples:
  python tools/report.py work_dirs/cifar100/r18_800ep
  python tools/report.py work_dirs/seed_0 work_dirs/seed_1 work_dirs/seed_2 --out three_seeds.html
  python tools/report.py work_dirs --out everything.html
A folder is searched for the runs of tools/pretrain.sh, finished or not, and for the results of tools/evaluate.py,
tools/finetune_d2.py, tools/finetune_mmdet.py and tools/eval_wsol.py. Runs whose settings differ by the seed alone are
averaged. The page is one file that needs no network.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pretrain.console import run_tool


def main() -> None:
    """Parse the command line, write the page, and print a short table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work_dirs", nargs="+", type=Path, metavar="WORK_DIR", help="folders with runs, or runs")
    parser.add_argument("--out", type=Path, metavar="OUT.html", help="default: report.html in the first WORK_DIR")
    arguments = parser.parse_args()

    # Late: --help and wrong arguments answer at once.
    from rich.console import Console

    from evidence.page import print_groups, write_page

    page, groups = write_page(arguments.work_dirs, arguments.out)
    width = None if sys.stdout.isatty() else 140  # a file or a pipe would count as 80
    print_groups(groups, Console(width=width, highlight=False, markup=False))
    print(f"\nreport: {page}")


if __name__ == "__main__":
    run_tool(main, "writes the page from the start")
