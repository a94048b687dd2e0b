"""A study of the mixing methods at the size of a laptop: `make study`, and `make study-quick` for a part of it.

    python tools/study.py                      fill what is not filled yet, then write the tables and curves
    python tools/study.py --quick              a part of it that takes a quarter of an hour
    python tools/study.py --only digits mixup  the cells whose names have both words, such as digits-mixup-0
    python tools/study.py --list               print every command
    python tools/study.py --report             write the tables and curves of what is there

Ctrl-C at any time; the same command goes on. A cell that is filled has a record in work_dirs/study/records, and is not
filled again: any number of sittings add up.
"""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from pretrain.console import UserError, at_least_one, run_tool


def main() -> int:
    """Parse the arguments, fill the cells, write and print the tables; status 1 where a cell failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only a part, which counts for the whole too")
    parser.add_argument(
        "--jobs",
        type=at_least_one,
        default=min(os.cpu_count() or 1, 8),
        metavar="N",
        help="cells at a time (%(default)s)",
    )
    parser.add_argument("--only", metavar="WORD", nargs="+", help="cells whose name has these words, e.g. scenes mixup")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--list", action="store_true", help="print the commands and stop")
    instead.add_argument("--report", action="store_true", help="write tables and curves from the records and stop")
    instead.add_argument("--prepare", action="store_true", help="write the picture scenes and stop")
    parser.add_argument("--records", type=Path, metavar="PATH", help="for --report: a folder or file of records")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="for --report: also fill the tables of this page")
    arguments = parser.parse_args()
    for option in ("records", "page"):
        if getattr(arguments, option) is not None and not arguments.report:
            raise UserError(f"--{option} says what --report reads or fills; give it together with --report")
    if (arguments.quick or arguments.only) and (arguments.report or arguments.prepare):
        chosen = "--only" if arguments.only else "--quick"
        raise UserError(f"{chosen} chooses cells to fill or to list; --report and --prepare are always of everything")

    from evidence.study import plan, scenes  # late: --help answers at once

    if arguments.prepare:
        scenes.prepare()
        return 0
    cells = plan.chosen(plan.cells(arguments.quick), arguments.only or [])
    if arguments.list:
        print("\n".join(dict.fromkeys(shlex.join(stage.command) for cell in cells for stage in plan.stages(cell))))
        return 0
    failed = 0
    if not arguments.report:
        from evidence.study.runner import fill

        failed = fill(cells, arguments.jobs)
    from evidence.study.report import write_report

    write_report(arguments.records, arguments.page)
    return 1 if failed else 0


if __name__ == "__main__":
    run_tool(main)
