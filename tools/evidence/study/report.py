"""What the records show: study.md, records.jsonl and the curves; and the same tables within docs/study.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from evidence.stages import ROOT
from evidence.study.figures import draw_cost, draw_curves, draw_reliability
from evidence.study.plan import SOURCES, WORK, Source, cells
from evidence.study.records import RECORDS, CellRecord, dumps, outdated, read_records
from evidence.study.tables import ablation_table, main_table, networks_table, welch_table
from pretrain.console import UserError, first_few, warn
from pretrain.files import write_text
from pretrain.plots import save_png

TABLES: dict[str, Callable[[Sequence[CellRecord], Source], str]] = {  # of each source, by the end of the block's name
    "": main_table,
    "-tests": welch_table,
    "-ablation-tests": partial(welch_table, ablations=True),
    "-networks": networks_table,
}
BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write_report(source: Path | None = None, page: Path | None = None) -> None:
    """Write WORK/study.md, WORK/records.jsonl and the curves from the records, and print the tables.

    Args:
        source: Folder or file of the records, see `read_records`; None: where the study leaves them.
        page: A page whose blocks are filled with the tables, such as docs/study.md; None: none.

    Raises:
        UserError: There are no records, or the page is not there, or has no blocks or unknown ones.
    """
    records = read_records(source or ROOT / RECORDS)
    work = ROOT / WORK
    blocks = tables(records)
    filled_page = None if page is None else _filled_page(page, blocks)  # before anything is written
    if old := outdated(records):
        warn(
            f"{len(old)} of {len(records)} records were made by other commands or configs than the present ones "
            f"({first_few(old)}); `make study` makes them again"
        )
    text = "\n\n".join(f"## {name}\n\n{table}" for name, table in blocks.items())
    write_text(work / "study.md", f"# Study\n\n{text}\n")
    write_text(work / "records.jsonl", dumps(records))
    for images in SOURCES:
        if any(record.source == images.key for record in records):
            for name, draw in (("curves", draw_curves), ("cost", draw_cost), ("calibration", draw_reliability)):
                save_png(draw(records, images), work / f"{name}_{images.key}.png")
    if page and filled_page:
        write_text(page, filled_page)
    print(f"{text}\n\n{WORK / 'study.md'}, {WORK / 'records.jsonl'}, pictures in {WORK}")


def tables(records: Sequence[CellRecord]) -> dict[str, str]:
    """Return every table in Markdown, by the name of its block in docs/study.md."""
    found = {"state": f"{len(records)} of {len(cells())} cells are filled."}
    for source in SOURCES:
        for suffix, table in TABLES.items():
            own = [record for record in records if record.source == source.key]
            found[source.key + suffix] = table(own, source) if own else "No cell of this source is filled yet."
    found["table-9"] = ablation_table(records, 9)
    found["table-10"] = ablation_table(records, 10)
    return found


def _filled_page(page: Path, blocks: dict[str, str]) -> str:
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--page {page}: cannot be read ({error}); name a page with blocks of tables") from error
    if not BLOCK.search(text):
        raise UserError(
            f"--page {page}: has no block to fill; write '<!-- table: {next(iter(blocks))} -->' and '<!-- end -->', "
            "each on its own line, where a table belongs"
        )
    try:
        return fill_blocks(text, blocks)
    except UserError as error:
        raise UserError(f"--page {page}: {error}") from error


def fill_blocks(text: str, blocks: dict[str, str]) -> str:
    """Return a page with its blocks, from <!-- table: NAME --> to <!-- end -->, filled anew.

    Raises:
        UserError: The page has a block that there is no table for.
    """
    if unknown := [name for _, name, _ in BLOCK.findall(text) if name not in blocks]:
        raise UserError(f"the page has a block '{unknown[0]}'; there are tables for {', '.join(blocks)}")
    return BLOCK.sub(lambda found: f"{found[1]}\n{blocks[found[2]]}\n\n{found[3]}", text)
