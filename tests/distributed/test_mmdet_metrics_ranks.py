"""Two processes over gloo evaluate in MMDetection: the figures of one, on both, and no file left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmdet_metric_jobs import evaluate, write_annotations

NUMBER = 13  # odd: mmengine's sampler repeats the first image so that both ranks have seven


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CocoBoxAP", "VocBoxAP"])
def test_two_ranks_find_the_figures_of_one(two_ranks: Any, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "current"
    folder.mkdir()
    settings = {}
    if name == "CocoBoxAP":
        write_annotations(tmp_path / "instances.json", NUMBER)
        settings["ann_file"] = str(tmp_path / "instances.json")
    first, second = two_ranks.run(evaluate, name, settings, NUMBER, folder)
    alone = evaluate(name, settings, NUMBER, folder)
    assert (first["seen"], second["seen"]) == ([1, 3, 5, 7, 9, 11, 13], [2, 4, 6, 8, 10, 12, 1])
    assert alone["seen"] == list(range(1, NUMBER + 1))
    numbers = {key: value for key, value in alone["values"].items() if value == value}
    assert numbers.keys() >= {f"{name[:-5].lower()}/{key}" for key in ("AP", "AP50", "class/cat", "class50/dog")}
    for rank in (first, second):
        assert rank["values"].keys() == alone["values"].keys()
        assert {key: value for key, value in rank["values"].items() if value == value} == numbers
        assert rank["files"] == []
    repeated = evaluate(name, settings, NUMBER, folder, again=True)["values"]
    assert all(repeated[key] != numbers[key] for key in numbers if "class" not in key), "the image twice would show"
