"""Several runs in one table: means and sample deviations that can be checked by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from pretrain.console import UserError
from transfer.summarize import as_table, summarize


def write(folder: Path, start: str, seed: int, ap50: float) -> Path:
    path = folder / f"{start}{seed}.json"
    result = {"framework": "Detectron2 0.6", "config": "voc", "start": start, "seed": seed, "AP": ap50 / 2}
    path.write_text(json.dumps(result | {"AP50": ap50, "AP75": None}))
    return path


def test_mean_and_deviation_over_seeds(tmp_path: Path) -> None:
    paths = [write(tmp_path, "automix", seed, value) for seed, value in enumerate((10.0, 12.0, 14.0))]
    paths.append(write(tmp_path, "random", 0, 3.0))
    automix, random = summarize(paths)
    assert (automix.start, automix.seeds, automix.framework) == ("automix", (0, 1, 2), "Detectron2")
    assert automix.figures["AP50"] == (12.0, 2.0)  # sample deviation: sqrt((4 + 0 + 4) / 2)
    assert automix.figures["AP"] == (6.0, 1.0)
    assert math.isnan(automix.figures["AP75"][0])
    assert random.figures["AP50"][0] == 3.0
    assert math.isnan(random.figures["AP50"][1])
    assert list(as_table([automix, random]).columns[5].cells) == ["12.0 ± 2.0", "3.0"]


def test_refusals(tmp_path: Path) -> None:
    path = write(tmp_path, "automix", 0, 1.0)
    with pytest.raises(UserError, match="a second run of seed 0 from automix"):
        summarize([path, path])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match=r"other\.json: not the results\.json of a detection run"):
        summarize([tmp_path / "other.json"])
