"""The pictures show what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from wsol.draw import ESTIMATE_COLOUR, TRUE_COLOUR, OverlayCollector, draw_overlay
from wsol.metadata import read_cub
from wsol.tally import Tally


def places(picture: np.ndarray, colour: str) -> np.ndarray:
    """Rows and columns of the pixels of that colour in the left picture, without the legend."""
    close = np.abs(picture.astype(int) - np.array(to_rgb(colour)) * 255).max(axis=2) < 40
    rows, columns = np.nonzero(close[: int(picture.shape[0] * 0.85), : picture.shape[1] // 2])
    return np.stack([rows, columns])


@pytest.mark.parametrize("size", [(64, 64), (90, 45), (40, 80)])
def test_boxes_stand_where_they_belong(tmp_path: Path, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (40, 40, 60))
    score_map = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    true, estimate = np.array([[2, 3, 13, 28]]), np.array([[18, 3, 29, 28]])
    draw_overlay(tmp_path / "a.png", image, score_map, true, estimate, "a duck", "IoU 0.00")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    green, red = places(picture, TRUE_COLOUR), places(picture, ESTIMATE_COLOUR)
    assert green.size
    assert red.size
    assert green[1].max() < red[1].min()  # true left, estimate right
    tall, wide = np.ptp(green[0]), np.ptp(green[1])
    assert tall / wide == pytest.approx((26 / 32 * size[1]) / (12 / 32 * size[0]), rel=0.15)


def test_chosen_images_are_spread_over_the_split(tree, tmp_path: Path) -> None:
    records = read_cub(tree.root, "test")
    collector, tally = OverlayCollector(records, 3, tree.root), Tally(0.1)
    for record in records:
        score_map = np.zeros((32, 32))
        x0, y0, x1, y1 = record.boxes_at(32, 32)[0]
        score_map[y0:y1, x0:x1] = 1
        tally.add(score_map, record.boxes_at(32, 32))
        collector.add(record, score_map)
    (tmp_path / "overlays").mkdir()
    (tmp_path / "overlays" / "007_earlier.png").touch()
    names = collector.draw(tally, tmp_path / "overlays")
    assert not (tmp_path / "overlays" / "007_earlier.png").exists()
    stems = [Path(records[place].image_id).stem for place in (0, 2, 5)]
    assert names == [f"overlays/{number:03d}_{stem}.png" for number, stem in enumerate(stems)]
    assert OverlayCollector(records, 0, None).draw(tally, tmp_path) == []
    assert len(OverlayCollector(records, 99, tree.root)._wanted) == len(records)
