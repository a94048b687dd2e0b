"""Join the results.json of many detection runs into the form of the paper's Table 7, with tests against a baseline.

Examples:
  python tools/summarize.py work_dirs/d2
  python tools/summarize.py work_dirs/d2/voc_r50_c4_24k work_dirs/d2/coco_r50_c4_2x --markdown table_7.md
  python tools/summarize.py runs/*/results.json --baseline "resizemix" --json table_7.json
A folder is searched for results.json of tools/finetune_d2.py and tools/finetune_mmdet.py. A row is a start, a cell the
mean and sample standard deviation over its runs. Runs of different settings are never averaged.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pretrain.console import run_tool, warn


def main() -> None:
    """Parse the command line, print the tables, and write them to the files that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="results.json files, or folders to search for them")
    parser.add_argument("--baseline", metavar="START", help="what the others are compared with (default: vanilla)")
    parser.add_argument("--json", type=Path, metavar="OUT.json", help="also write everything as JSON")
    parser.add_argument("--markdown", type=Path, metavar="OUT.md", help="also write the tables as Markdown")
    arguments = parser.parse_args()

    # Late: --help and wrong arguments answer at once.
    from rich.console import Console

    from pretrain.files import write_json, write_text
    from transfer.summarize.printing import as_json, as_markdown, print_tables
    from transfer.summarize.runs import read_runs
    from transfer.summarize.tables import build_tables

    runs, left_out = read_runs(arguments.results)
    tables = build_tables(runs, arguments.baseline)
    width = None if sys.stdout.isatty() else 140  # a file or a pipe would count as 80
    print_tables(tables, Console(width=width, highlight=False, markup=False))
    for path, reason in left_out.items():
        warn(f"left out: {path}: {reason}")
    if arguments.json:
        write_json(arguments.json, as_json(tables, left_out))
    if arguments.markdown:
        write_text(arguments.markdown, as_markdown(tables, left_out))


if __name__ == "__main__":
    run_tool(main)
