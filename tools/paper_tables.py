"""The paper's Tables 1 to 14, each cell beside the runs that are there for it, or the command that would fill it.

Examples:
  python tools/paper_tables.py                                            all tables, runs below work_dirs
  python tools/paper_tables.py --table 2 7 --runs work_dirs /mnt/runs     two tables, runs of two folders
  python tools/paper_tables.py --table 1 --commands                       what is missing, a command a line
  python tools/paper_tables.py --markdown docs/paper_tables.md --runs     the page of the paper's figures; no runs
A run counts where its settings are the published ones; one that departs from them is listed, and not averaged.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

from pretrain.console import run_tool, tell


def main() -> None:
    """Parse the command line; print the tables or the missing commands, and write the files that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--table", type=int, nargs="+", action="extend", metavar="N", help="only these tables (default: all)")
    add("--runs", type=Path, nargs="*", metavar="FOLDER", help="where runs are looked for (default: work_dirs)")
    add("--commands", action="store_true", help="print the commands of the missing runs and nothing else")
    add("--markdown", type=Path, metavar="OUT.md", help="write the tables as Markdown instead of printing them")
    add("--json", type=Path, metavar="OUT.json", help="also write everything as JSON")
    arguments = parser.parse_args()

    # Late: --help and wrong arguments answer at once.
    from rich.console import Console

    from evidence.found import existing
    from evidence.output import require_file
    from evidence.paper import FILES
    from evidence.printing import as_json, as_markdown, print_tables
    from evidence.tables import build_tables, commands
    from pretrain.files import write_json, write_text

    for option, path in (("--json", arguments.json), ("--markdown", arguments.markdown)):
        if path:
            require_file(path, option, f"paper_tables.{'md' if option == '--markdown' else 'json'}")
    numbers = list(dict.fromkeys(arguments.table or sorted(FILES)))
    tables, left_out = build_tables(numbers, existing(arguments.runs))
    if arguments.json:
        write_json(arguments.json, as_json(tables, left_out))
        if not arguments.commands:  # these are printed and nothing else
            tell(f"written: {arguments.json}")
    if arguments.markdown:
        command = shlex.join(["python", "tools/paper_tables.py", *sys.argv[1:]])
        write_text(arguments.markdown, as_markdown(tables, left_out, command, arguments.markdown.parent))
        tell(f"written: {arguments.markdown}")
    if arguments.commands:
        print("\n".join(commands(tables)))
    elif not arguments.markdown:
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 140  # a file or a pipe would count as 80
        print_tables(tables, left_out, Console(width=width, highlight=False, markup=False))


if __name__ == "__main__":
    run_tool(main)
