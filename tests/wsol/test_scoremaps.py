"""Score maps on disk and the note beside them."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest

from pretrain.console import UserError
from wsol.boxes import quantise
from wsol.maps import scoremaps
from wsol.maps.scoremaps import ScoreMapWriter, read_note, read_score_map


def test_room_is_asked_for_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(scoremaps, "require_free_space", lambda folder, size, why: asked.append(size))
    writer = ScoreMapWriter(tmp_path, 3, (20, 30), {})
    for name in "abc":
        writer.write(f"{name}/x.jpg", np.random.default_rng(0).random((20, 30)))
    assert asked == [sum(path.stat().st_size for path in tmp_path.rglob("*.npy"))]


def test_the_first_process_notes_how_maps_were_made_and_that_all_are_there(tmp_path: Path) -> None:
    second = ScoreMapWriter(tmp_path, 2, (4, 4), {"cam": "gradcam"}, first=False)
    second.write("b.jpg", np.eye(4))
    second.finish()
    assert read_note(tmp_path) == {}
    assert [path.name for path in tmp_path.iterdir()] == ["b.jpg.npy"]
    first = ScoreMapWriter(tmp_path, 2, (4, 4), {"cam": "gradcam"})
    first.write("a.jpg", np.eye(4) / 3)
    with pytest.raises(UserError, match="did not end"):
        read_note(tmp_path)
    first.finish()
    assert read_note(tmp_path) == {"cam": "gradcam"}
    assert json.loads((tmp_path / "scoremaps.json").read_text())["images"] == 2
    found, dtype = read_score_map(tmp_path, "a.jpg")
    assert (found.tolist(), dtype) == ((np.eye(4) / 3).tolist(), "float64")


def test_eight_bits_on_disk_are_the_same_eight_bits_in_the_metric(tmp_path: Path) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.save(tmp_path / "a.jpg.npy", pixels)
    found, dtype = read_score_map(tmp_path, "a.jpg")
    assert dtype == "uint8"
    np.testing.assert_array_equal(quantise(found), pixels)


def test_threads_read_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.jpg.npy", np.eye(4))
    load, reading = np.load, Lock()

    def alone(*arguments: Any, **named: Any) -> Any:
        assert reading.acquire(blocking=False), "another thread is reading"
        try:
            time.sleep(0.005)
            return load(*arguments, **named)
        finally:
            reading.release()

    monkeypatch.setattr(np, "load", alone)
    with ThreadPoolExecutor(4) as pool:
        for found, _ in pool.map(lambda _: read_score_map(tmp_path, "a.jpg"), range(8)):
            assert found.tolist() == np.eye(4).tolist()


def test_a_map_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="disk full"):
        ScoreMapWriter(tmp_path, 1, (4, 4), {}).write("a.jpg", np.eye(4))
    assert list(tmp_path.glob("**/*.npy*")) == []
