"""Which images of an evaluation are drawn, and with what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wsol.draw import Case, pictures
from wsol.maps.sources import Scored
from wsol.metadata import ImageRecord, read_cub

IOUS = [0.4, 0.9, 0.1, 0.6, 0.3, 0.7]


def source(records: Sequence[ImageRecord]) -> Iterator[Scored]:
    for record in records:
        yield Scored(record, partial(np.full, (24, 32), record.label / 4))


@pytest.fixture
def rows(tree) -> list[dict[str, Any]]:
    return [
        {
            "image_id": record.image_id,
            "class": f"{record.label:03d}.some_bird",
            "top1": place % 2 == 0,
            "error": "correct" if iou >= 0.5 else "part",
            "iou": iou,
            "box": [place, 0, 31, 31],
        }
        for place, (record, iou) in enumerate(zip(read_cub(tree.root, "test"), IOUS))
    ]


@pytest.fixture
def sheet(monkeypatch: pytest.MonkeyPatch) -> list[list[Case]]:
    seen: list[list[Case]] = []
    monkeypatch.setattr(pictures, "draw_sheet", lambda best, worst, *_: seen.extend([list(best), list(worst)]))
    return seen


def test_a_few_are_spread_over_the_split_and_the_best_and_worst_are_on_the_sheet(
    tree, rows: list[dict[str, Any]], sheet: list[list[Case]], tmp_path: Path
) -> None:
    records = read_cub(tree.root, "test")
    (tmp_path / "overlays").mkdir()
    (tmp_path / "overlays" / "007_earlier.png").touch()
    found = pictures.draw_pictures(source, records, rows, 0.3, tree.root, tmp_path, 3, 2)
    stems = [Path(records[place].image_id).stem for place in (0, 2, 5)]
    assert found["overlays"] == [f"overlays/{number:03d}_{stem}.png" for number, stem in enumerate(stems)]
    assert sorted(path.name for path in (tmp_path / "overlays").iterdir()) == [Path(n).name for n in found["overlays"]]
    assert found["pictures"] == {"sheet": "sheet.png"}
    best, worst = sheet
    assert [case.iou for case in best] == [0.9, 0.7]
    assert [case.iou for case in worst] == [0.1, 0.3]
    assert [case.note for case in best] == ["wrong class", "wrong class"]  # places 1 and 5
    assert [case.note for case in worst] == ["part", "part"]
    case = worst[0]
    assert case.image_id == records[2].image_id
    assert case.title == "some bird"
    assert case.estimated_box.tolist() == [2, 0, 31, 31]
    np.testing.assert_array_equal(case.true_boxes, records[2].boxes_at(32, 24))
    assert np.unique(case.score_map).tolist() == [records[2].label / 4]


def test_no_image_is_among_the_best_and_the_worst(
    tree, rows: list[dict[str, Any]], sheet: list[list[Case]], tmp_path: Path
) -> None:
    pictures.draw_pictures(source, read_cub(tree.root, "test"), rows, 0.3, tree.root, tmp_path, 0, 8)
    assert [len(cases) for cases in sheet] == [3, 3]
    assert not {case.image_id for case in sheet[0]} & {case.image_id for case in sheet[1]}


def test_without_images_nothing_is_drawn_and_what_was_is_removed(
    tree, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    records = read_cub(tree.root, "test")
    pictures.draw_pictures(source, records, rows, 0.3, tree.root, tmp_path, 1, 1)
    assert (tmp_path / "sheet.png").is_file()
    for data, some in ((None, rows), (tree.root, [])):
        found = pictures.draw_pictures(source, records, some, 0.3, data, tmp_path, 1, 1)
        assert found == {"overlays": [], "pictures": {}}
        assert [path.name for path in tmp_path.rglob("*.png")] == []


def test_no_image_is_drawn_twice_and_no_sheet_is_named_that_is_not_there(
    tree, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, drawn = read_cub(tree.root, "test"), []
    monkeypatch.setattr(pictures, "draw_overlays", lambda cases, folder: drawn.extend(cases) or ["a.png"])
    rows[3]["top1"] = None  # there was no prediction
    found = pictures.draw_pictures(source, records, rows, 0.3, tree.root, tmp_path, 100, 0)
    assert found == {"overlays": ["a.png"], "pictures": {}}
    assert [case.image_id for case in drawn] == [record.image_id for record in records]
    assert [case.note.removesuffix("threshold 0.300") for case in drawn[:4]] == [
        "part, ",
        "wrong class, ",
        "part, ",
        "",
    ]
    drawn.clear()
    pictures.draw_pictures(source, records, rows, 0.3, tree.root, tmp_path, 4, 0)
    assert [case.image_id for case in drawn] == [records[place].image_id for place in (0, 2, 3, 5)]
