"""Which images of an evaluation are drawn: a few spread over the split, the best and the worst."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretrain.console import progress
from wsol.draw import Case, draw_overlays, draw_sheet
from wsol.maps.images import read_rgb
from wsol.maps.sources import Source
from wsol.metadata import ImageRecord, find_image, plain_class_name

Row = Mapping[str, Any]  # see `wsol.counting.rows.row_of`
SHEET, OVERLAYS = "sheet.png", "overlays"


def draw_pictures(
    source: Source,
    records: Sequence[ImageRecord],
    rows: Sequence[Row],
    threshold: float,
    data: str | Path | None,
    out: Path,
    spread: int,
    extremes: int,
) -> dict[str, Any]:
    """Draw the contact sheet and the overlays; the score maps of these images are made once more.

    Args:
        source: Makes the score maps.
        records: The images of the split.
        rows: What came of each, in the same order; none, where the truth is no boxes, draws nothing.
        threshold: The score threshold of the rows.
        data: Root of the images; None draws nothing.
        out: Folder for the pictures. What an earlier run left there under the same names is replaced or removed.
        spread: Number of images, spread evenly over the split, with a picture each.
        extremes: Number of best and number of worst cases on the contact sheet.

    Returns:
        {"overlays": names of the files, "pictures": {name: file}}, below `out`.
    """
    (out / SHEET).unlink(missing_ok=True)
    if data is None or not rows:
        return {"overlays": draw_overlays([], out / OVERLAYS), "pictures": {}}

    def cases(places: Sequence[int], note: str = "") -> Iterator[Case]:
        for scored, place in zip(source([records[place] for place in places]), places):
            score_map, row = scored.score_map(), rows[place]
            kinds = [] if row["top1"] in (None, True) else ["wrong class"]
            kinds += [] if row["error"] == "correct" else [row["error"]]
            yield Case(
                image_id=row["image_id"],
                image=read_rgb(find_image(data, row["image_id"])),
                score_map=score_map,
                true_boxes=scored.record.boxes_at(score_map.shape[1], score_map.shape[0]),
                estimated_box=np.array(row["box"]),
                iou=row["iou"],
                title=plain_class_name(row["class"]).replace("_", " "),
                note=", ".join([*kinds, *([note] if note else [])]),
            )
            advance()

    chosen = np.linspace(0, len(records) - 1, min(spread, len(records))).round().astype(int).tolist()
    order = sorted(range(len(rows)), key=lambda place: rows[place]["iou"])
    extremes = min(extremes, len(order) // 2)
    with progress("pictures", len(chosen) + 2 * extremes) as advance:
        overlays = draw_overlays(cases(chosen, f"threshold {threshold:.3f}"), out / OVERLAYS)
        if extremes:
            best, worst = order[: -extremes - 1 : -1], order[:extremes]
            title = f"Best and worst by IoU at the score threshold {threshold:.3f}"
            draw_sheet(cases(best), cases(worst), out / SHEET, title)
    return {"overlays": overlays, "pictures": {"sheet": SHEET} if extremes else {}}
