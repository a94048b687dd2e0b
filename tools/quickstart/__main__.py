"""The whole chain at the size of a laptop: `make quickstart`.

    python tools/quickstart                    run what is not done yet, then write report.html
    python tools/quickstart --list             print the commands
    python tools/quickstart --report-only      write the report again

Every stage is a command that can be typed by itself. Ctrl-C at any time; the same command goes on.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # tools/, for evidence/

from stages import WORK, plan

from evidence.stages import ROOT, run
from pretrain.console import run_tool
from pretrain.files import folder_size, require_free_space

NEEDED_BYTES = 2_500_000_000  # 2.2 GB stay; tools/doctor.py looks for as much


def main() -> None:
    """Parse the arguments, run the stages, write and print the report."""
    parser = argparse.ArgumentParser(
        prog="tools/quickstart", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="print the commands and stop")
    parser.add_argument("--report-only", action="store_true", help="write report.html from what is there")
    arguments = parser.parse_args()

    stages = plan()
    if arguments.list:
        print("\n".join(shlex.join(stage.command) for stage in stages))
        return
    folder = ROOT / WORK
    if not arguments.report_only:
        require_free_space(folder, max(NEEDED_BYTES - folder_size(folder), 0), "the quickstart")
        run(stages, folder / "stages")
    from report import print_summary, write_report  # here, since torch takes seconds and memory the stages want

    page = write_report(folder, stages)
    print_summary(folder)
    print(f"\nreport: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    run_tool(main)
