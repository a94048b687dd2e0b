"""Unpacking the official archives of VOC and COCO: checked first, safe, and going on where it was interrupted."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from coco_tree import write_coco
from voc_tree import write_voc

from pretrain.console import UserError
from transfer.datasets import preflight
from transfer.prepare import command, unpack
from transfer.prepare.command import prepare_coco, prepare_voc
from transfer.prepare.official import VOC

VOC_NAMES = [archive.name for archive in VOC.archives]


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def voc(tmp_path: Path) -> tuple[list[Path], dict[str, bytes]]:
    """The three archives in miniature, with a folder of masks that detection does not read; and what must come out."""
    write_voc(tmp_path / "tree")
    truth = contents(tmp_path / "tree")
    archives = []
    for name, year, split in zip(VOC_NAMES, ("2007", "2007", "2012"), ("trainval", "test", "trainval")):
        archives.append(tmp_path / name)
        with tarfile.open(archives[-1], "w") as archive:
            for path in sorted((tmp_path / "tree" / "VOCdevkit" / f"VOC{year}").rglob("*")):
                if path.is_dir() or f"{year}_{split}" in path.name or path.name == f"{split}.txt":
                    archive.add(path, str(path.relative_to(tmp_path / "tree")), recursive=False)
            archive.add(__file__, f"VOCdevkit/VOC{year}/SegmentationClass/mask.png")
    shutil.rmtree(tmp_path / "tree")
    return archives, truth


def test_voc(voc: tuple[list[Path], dict[str, bytes]], tmp_path: Path) -> None:
    archives, truth = voc
    prepare_voc(archives, tmp_path / "out", None, subset=True)
    assert contents(tmp_path / "out") == truth
    preflight(["voc_2007_trainval", "voc_2007_test", "voc_2012_trainval"], tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jpg")}
    prepare_voc(archives, tmp_path / "out", None, subset=True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jpg")} == before


def test_coco(tmp_path: Path) -> None:
    write_coco(tmp_path / "tree", {"train": 3, "val": 2})
    truth = contents(tmp_path / "tree")
    archives = [tmp_path / name for name in ("train2017.zip", "val2017.zip", "annotations_trainval2017.zip")]
    for path, folder in zip(archives, ("train2017", "val2017", "annotations")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{folder}/", "")
            for name, content in truth.items():
                if folder in Path(name).parts:
                    archive.writestr(name.removeprefix("coco/"), content)
            archive.writestr("annotations/captions_val2017.json", "{}")
    prepare_coco(archives, tmp_path / "out", None, subset=True)
    found = contents(tmp_path / "out")
    assert found.pop("coco/verified.json")
    assert found == truth


def test_checksums_are_compared_before_anything_is_unpacked(
    voc: tuple[list[Path], dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives, truth = voc
    sums = [f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}" for path in archives]
    own = tuple(replace(archive, checksum=digest) for archive, digest in zip(VOC.archives, sums))
    monkeypatch.setattr(command, "VOC", replace(VOC, archives=own))
    with archives[2].open("ab") as file:
        file.write(b"\0")
    with pytest.raises(UserError, match=r"11-May-2012\.tar: its checksum is md5:.*; delete it and download it again"):
        prepare_voc(archives, tmp_path / "out", None, subset=False)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="officially 5,011"):  # the first two are right, but small
        prepare_voc(archives[:2], tmp_path / "out", None, subset=False)
    assert contents(tmp_path / "out") == {name: truth[name] for name in truth if "VOC2012" not in name}


def test_unknown_and_missing_archives(tmp_path: Path) -> None:
    path = tmp_path / "VOCtrainval_06-Nov-2007 (1).tar"
    with pytest.raises(
        UserError, match=r"\(1\)\.tar: no such archive; without one, python tools/prepare_voc\.py --out"
    ):
        prepare_voc([path], tmp_path / "out", None, subset=True)
    path.touch()
    with pytest.raises(UserError, match=r"has this name; did you mean 'VOCtrainval_06-Nov-2007\.tar'"):
        prepare_voc([path], tmp_path / "out", None, subset=True)


def test_an_interrupted_run_goes_on(
    voc: tuple[list[Path], dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives, truth = voc
    out, original, placed = tmp_path / "out", unpack.place, []

    def place(member: Any, target: Path) -> None:
        placed.append(target)
        if len(placed) == 5:
            target.with_name(f".{target.stem}.abcd_123{target.suffix}").write_bytes(b"half")  # kill -9
            raise KeyboardInterrupt
        original(member, target)

    monkeypatch.setattr(unpack, "place", place)
    with pytest.raises(KeyboardInterrupt):
        prepare_voc(archives, out, None, subset=True)
    assert "is being unpacked; python tools/prepare_voc.py goes on" in (out / "VOCdevkit" / ".unpacking").read_text()
    placed[:] = [Path()] * 5
    prepare_voc(archives, out, None, subset=True)
    assert len(placed) - 5 == len(truth) - 4, "what was there is written again"
    assert contents(out) == truth


def test_a_broken_file_is_written_again(voc: tuple[list[Path], dict[str, bytes]], tmp_path: Path) -> None:
    archives, truth = voc
    prepare_voc(archives, tmp_path / "out", None, subset=True)
    name = next(name for name in truth if name.endswith(".jpg"))
    (tmp_path / "out" / name).write_bytes(b"short")
    prepare_voc(archives, tmp_path / "out", None, subset=True)
    assert contents(tmp_path / "out") == truth


@pytest.mark.parametrize("name", ["../evil.jpg", "/tmp/evil.jpg", "VOCdevkit/VOC2007/JPEGImages/../../../../evil.jpg"])
def test_an_archive_that_leads_outside(name: str, voc: tuple[list[Path], dict[str, bytes]], tmp_path: Path) -> None:
    with tarfile.open(voc[0][1], "a") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(UserError, match="is a path that leads outside, which the real archive does not have"):
        prepare_voc(voc[0], tmp_path / "out", None, subset=True)
    assert not (tmp_path / "out").exists()


def test_a_truncated_archive_and_one_of_something_else(
    voc: tuple[list[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    archives, _ = voc
    whole = archives[1].read_bytes()
    archives[1].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"VOCtest_06-Nov-2007\.tar: cut short or damaged"):
        prepare_voc(archives, tmp_path / "out", None, subset=True)
    with tarfile.open(archives[1], "w") as archive:
        archive.add(__file__, "VOCdevkit/VOC2010/JPEGImages/1.jpg")
    with pytest.raises(
        UserError, match=r"VOCtest_06-Nov-2007\.tar: nothing in it that belongs to\n  VOCdevkit/VOC2007/"
    ):
        prepare_voc(archives, tmp_path / "out", None, subset=True)
    assert not (tmp_path / "out").exists()


def test_too_small_a_disk(
    voc: tuple[list[Path], dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"unpacking VOCtrainval_06-Nov-2007\.tar needs .* MiB and the disk has"):
        prepare_voc(voc[0], tmp_path / "out", None, subset=True)
    assert not (tmp_path / "out").exists()


def test_downloads_what_was_neither_named_nor_is_there(
    voc: tuple[list[Path], dict[str, bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives, truth = voc
    (tmp_path / "archives").mkdir()
    there = Path(shutil.move(archives[1], tmp_path / "archives"))
    fetched = []

    def download(archive: Any, folder: Path) -> Path:
        fetched.append(archive.name)
        return Path(shutil.move(archives[2], folder))

    monkeypatch.setattr(unpack, "download", download)
    prepare_voc(archives[:1], tmp_path / "out", tmp_path / "archives", subset=True)
    assert there.is_file()
    assert fetched == VOC_NAMES[2:]
    assert contents(tmp_path / "out") == truth


def test_unpacking_makes_an_earlier_check_void(tmp_path: Path) -> None:
    write_coco(tmp_path / "out", {"val": 2})
    prepare_coco([], tmp_path / "out", None, subset=True)
    picture = tmp_path / "out" / "coco" / "val2017" / "000000000001.jpg"
    with zipfile.ZipFile(tmp_path / "val2017.zip", "w") as archive:
        archive.write(picture, "val2017/000000000001.jpg")
    picture.write_bytes(b"")
    (tmp_path / "out" / "coco" / "annotations" / "instances_val2017.json").write_text("[]")
    with pytest.raises(UserError, match="no COCO annotation file"):
        prepare_coco([tmp_path / "val2017.zip"], tmp_path / "out", None, subset=True)
    assert picture.stat().st_size
    assert not (tmp_path / "out" / "coco" / "verified.json").exists()


def test_a_check_ends_an_unpacking_that_someone_finished_by_hand(tmp_path: Path) -> None:
    write_coco(tmp_path, {"val": 2})
    marker = tmp_path / "coco" / ".unpacking"
    marker.touch()
    picture = tmp_path / "coco" / "val2017" / "000000000001.jpg"
    away = picture.rename(tmp_path / "away.jpg")
    with pytest.raises(UserError, match="picture that is not there"):
        prepare_coco([], tmp_path, None, subset=True)
    assert marker.exists()
    away.rename(picture)
    prepare_coco([], tmp_path, None, subset=True)
    assert not marker.exists()
