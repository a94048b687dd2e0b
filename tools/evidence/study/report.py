"""What the records show: tables.md, records.jsonl and the curves; and the same tables within docs/study.md."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from evidence.stages import ROOT
from evidence.study.figures import draw_curves
from evidence.study.plan import SOURCES, WORK, cells
from evidence.study.records import RECORDS, Record, dumps, read_records
from evidence.study.tables import (
    ablation_table,
    main_table,
    networks_table,
    test_table,
)
from pretrain.console import UserError
from pretrain.files import write_text
from pretrain.plots import save_png

BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def write_report(source: Path | None = None, page: Path | None = None) -> None:
    """Write WORK/study.md, WORK/records.jsonl and the curves from the records, and print the tables.

    Args:
        source: Folder or file of the records, see `read_records`; None: where the study leaves them.
        page: A page whose blocks are filled with the tables, such as docs/study.md; None: none.

    Raises:
        UserError: There are no records.
    """
    records = read_records(source or ROOT / RECORDS)
    work = ROOT / WORK
    blocks = tables(records)
    text = "\n\n".join(f"## {name}\n\n{table}" for name, table in blocks.items())
    filled = f"{len(records)} of {len(cells())} cells are filled."
    write_text(work / "study.md", f"# Study\n\n{filled}\n\n{text}\n")
    write_text(work / "records.jsonl", dumps(records))
    for images in SOURCES:
        if any(record.source == images.key for record in records):
            save_png(draw_curves(records, images), work / f"curves_{images.key}.png")
    if page is not None:
        write_text(page, fill_blocks(page.read_text(encoding="utf-8"), blocks))
    print(f"{text}\n\n{filled} {WORK / 'study.md'}, {WORK / 'records.jsonl'}, {WORK}/curves_*.png")


def tables(records: Sequence[Record]) -> dict[str, str]:
    """Return every table in Markdown, by the name of its block in docs/study.md."""
    found = {}
    for source in SOURCES:
        if any(record.source == source.key for record in records):
            found[source.key] = main_table(records, source)
            found[f"{source.key}-tests"] = test_table(records, source)
            found[f"{source.key}-networks"] = networks_table(records, source)
    found["table-9"] = ablation_table(records, 9)
    found["table-10"] = ablation_table(records, 10)
    return found


def fill_blocks(text: str, blocks: dict[str, str]) -> str:
    """Return a page with its blocks, from <!-- table: NAME --> to <!-- end -->, filled anew.

    Raises:
        UserError: The page has a block that there is no table for.
    """
    if unknown := [name for _, name, _ in BLOCK.findall(text) if name not in blocks]:
        raise UserError(f"the page has a block '{unknown[0]}'; there are tables for {', '.join(blocks)}")
    return BLOCK.sub(lambda found: f"{found[1]}\n{blocks[found[2]]}\n\n{found[3]}", text)
