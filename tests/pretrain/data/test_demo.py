"""Writing the demo: counts, the same bytes for a seed, going on after an interruption, and refusals."""

import dataclasses
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

import pretrain.data.demo.write as demo_module
from pretrain.console import UserError
from pretrain.data.demo import scene, write_demo
from pretrain.data.demo.drawings import VOC_CLASSES
from pretrain.data.demo.settings import DemoSettings, bytes_needed, picture_counts
from pretrain.data.demo.sheet import draw_sheet
from pretrain.files import read_json


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_every_set_has_its_number_of_pictures(demo: Path, tiny_settings: DemoSettings) -> None:
    found = Counter(path.relative_to(demo).parts[0] for path in demo.rglob("*.jpg"))
    assert found == {"classification": 24 * 2, "VOCdevkit": 4 + 3 + 20, "coco": 4 + 3 + 20, "CUB_200_2011": 22 * 3}
    assert read_json(demo / "complete.json")["counts"] == picture_counts(tiny_settings)
    assert sum(picture_counts(DemoSettings()).values()) == 100 * 25 + 320 + 22 * 11


def test_same_seed_gives_the_same_bytes_and_another_seed_others(
    demo: Path, tmp_path: Path, tiny_settings: DemoSettings
) -> None:
    write_demo(tmp_path / "again", 7, tiny_settings)
    assert contents(tmp_path / "again") == contents(demo)
    write_demo(tmp_path / "other", 8, tiny_settings)
    other, this = contents(tmp_path / "other"), contents(demo)
    pictures = [name for name in this if name.endswith(".jpg")]
    assert other.keys() == this.keys()
    assert all(other[name] != this[name] for name in pictures)


def test_an_interrupted_run_goes_on_and_keeps_what_is_there(
    demo: Path, tmp_path: Path, tiny_settings: DemoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    written: list[Path] = []
    write = demo_module.write_picture

    def write_until_interrupted(path: Path, encoded: bytes) -> None:
        if len(written) == 60:  # in the middle of the VOC pictures
            raise KeyboardInterrupt
        written.append(path)
        write(path, encoded)

    monkeypatch.setattr(demo_module, "write_picture", write_until_interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_demo(root, 7, tiny_settings)
    assert not (root / "complete.json").exists()
    monkeypatch.setattr(demo_module, "write_picture", write)
    before = {path: path.stat().st_mtime_ns for path in written}
    assert not write_demo(root, 7, tiny_settings).already_complete
    assert {path: path.stat().st_mtime_ns for path in written} == before
    assert contents(root) == contents(demo)


def test_deleted_and_damaged_pictures_come_back_the_same(
    demo: Path, tmp_path: Path, tiny_settings: DemoSettings
) -> None:
    root = tmp_path / "data"
    shutil.copytree(demo, root)
    (root / "complete.json").unlink()
    pictures = sorted(root.rglob("*.jpg"))
    for path in pictures[::5]:
        path.unlink()
    for path in pictures[1::5]:  # as a power cut may leave them
        path.write_bytes(path.read_bytes()[:100])
    (root / "VOCdevkit" / "VOC2007" / "Annotations" / "000001.xml").unlink()
    write_demo(root, 7, tiny_settings)
    assert contents(root) == contents(demo)


def test_a_complete_demo_is_left_alone(demo: Path, tiny_settings: DemoSettings) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.rglob("*")}
    assert write_demo(demo, 7, tiny_settings).already_complete
    assert {path: path.stat().st_mtime_ns for path in demo.rglob("*")} == before


def test_other_settings_are_refused_by_name(demo: Path, tiny_settings: DemoSettings) -> None:
    style = dataclasses.replace(tiny_settings.cub_style, rotation=5.0)
    with pytest.raises(UserError, match=r"cub_style\.rotation is 25\.0 there and 5\.0 here.*delete this one"):
        write_demo(demo, 7, dataclasses.replace(tiny_settings, cub_style=style))
    with pytest.raises(UserError, match="seed is 7 there and 0 here"):
        write_demo(demo, 0, tiny_settings)


def test_a_folder_with_other_things_is_refused(tmp_path: Path, tiny_settings: DemoSettings) -> None:
    (tmp_path / "thesis.tex").write_text("precious", encoding="utf-8")
    with pytest.raises(UserError, match="other things than demo data"):
        write_demo(tmp_path, 0, tiny_settings)
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(("change", "message"), [({"classes": 21}, "birds need 22"), ({"cub_val": 0}, "cub_val")])
def test_impossible_settings_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        DemoSettings(**change)


def test_a_full_disk_is_noticed_beforehand(
    tmp_path: Path, tiny_settings: DemoSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(UserError, match="the demo data needs .* MiB and the disk has 1 MiB free"):
        write_demo(tmp_path / "data", 0, tiny_settings)
    assert not (tmp_path / "data").exists()


def test_the_room_asked_for_is_enough(demo: Path, tiny_settings: DemoSettings) -> None:
    used = sum(path.stat().st_blocks * 512 for path in demo.rglob("*"))
    assert used < bytes_needed(tiny_settings, picture_counts(tiny_settings))


def test_every_voc_class_stands_in_the_default_test_set_and_counts_there() -> None:
    settings, seen, difficult = DemoSettings(), Counter[str](), 0
    for index in range(settings.voc2007_test):
        first = VOC_CLASSES[index % 20]
        for thing in scene("voc2007/test", index, 0, settings, first).objects:
            seen[thing.label] += not thing.difficult
            difficult += thing.difficult
    assert set(seen) == set(VOC_CLASSES)
    assert min(seen.values()) >= 3
    assert 0 < difficult < 0.1 * seen.total()


def test_attribution_names_authors_and_licences(demo: Path) -> None:
    text = (demo / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for needed in ("https://openmoji.org", "CC BY-SA 4.0", "changed", "scikit-image", "Stefan van der Walt", "CC0"):
        assert needed in text


def test_the_contact_sheet_is_drawn_from_the_files(demo: Path, tmp_path: Path) -> None:
    draw_sheet(demo, tmp_path / "sheet.png", rows=1)
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="no complete demo data"):
        draw_sheet(tmp_path, tmp_path / "none.png")
