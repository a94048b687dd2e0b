"""Arranging: a data set is whole or not there, and an interrupted run goes on."""

import errno
import os
import shutil
import tarfile
from dataclasses import replace
from types import SimpleNamespace

import pytest
from prepare_layouts import LAYOUTS, picture

from pretrain import files
from pretrain.archives import sources
from pretrain.archives.reading import Member, file_member
from pretrain.console import UserError
from pretrain.data.card import read_data_card
from pretrain.data.prepare import arrange as arranging
from pretrain.data.prepare.arrange import complete_card

FIRST = "001.Black_footed_Albatross"


class Killed(BaseException):
    """As a signal would: nothing that the code catches."""


@pytest.fixture
def killed_at(monkeypatch):
    """Let the run die when it is about to write image number `n`; returns the images it was asked to place."""

    def at(n):
        placed = []
        original = arranging.place

        def place(member, target):
            if len(placed) == n:
                raise Killed
            placed.append(target)
            original(member, target)

        monkeypatch.setattr(arranging, "place", place)
        return placed

    yield at
    monkeypatch.undo()


def test_an_interrupted_run_goes_on(built, arranged, seen, tmp_path, killed_at, monkeypatch):
    killed_at(7)
    with pytest.raises(Killed):
        arranged(built, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    partial = tmp_path / "out.partial"
    there = {path: path.stat().st_ino for path in partial.glob("*/*/*")}
    assert len(there) == 7
    spoilt, *kept = there
    spoilt.write_bytes(b"")  # as after a power cut
    (spoilt.parent / f".{spoilt.name}").write_bytes(b"half")  # as atomic writing leaves it behind a kill
    arranged(built, tmp_path / "out")
    assert seen(tmp_path / "out") == built.truth
    for path in kept:
        assert (tmp_path / "out" / path.relative_to(partial)).stat().st_ino == there[path]


def test_archives_that_were_checked_are_not_checked_again(make, arranged, tmp_path, killed_at, monkeypatch):
    built = make("cub200")
    killed_at(3)
    with pytest.raises(Killed):
        arranged(built, tmp_path / "out")
    monkeypatch.undo()
    sums = []
    original = sources.checksum
    monkeypatch.setattr(sources, "checksum", lambda *args: sums.append(args) or original(*args))
    os.utime(built.folder / "CUB_200_2011.tgz", (1, 1))
    with monkeypatch.context() as patch:
        patch.setattr(arranging, "place", lambda *args: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            arranged(built, tmp_path / "out")
    assert len(sums) == 1  # the file had changed
    card = arranged(built, tmp_path / "out")
    assert len(sums) == 1
    assert card.source == {"CUB_200_2011.tgz": built.data_set.archives[0].checksum}


@pytest.mark.parametrize("key", LAYOUTS)
def test_a_wrong_checksum_is_refused(make, arranged, tmp_path, key):
    built = make(key)
    path = built.folder / built.data_set.archives[0].name
    right = built.data_set.archives[0].checksum
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(UserError, match=rf"{path.name}: its checksum is md5:[0-9a-f]{{32}}, and {right} is that of"):
        arranged(built, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()


def test_an_archive_without_a_known_checksum_gets_one_on_the_card(make, arranged, tmp_path):
    built = make("places205")
    unknown = tuple(replace(archive, checksum=None) for archive in built.data_set.archives)
    built.data_set = replace(built.data_set, archives=unknown)
    card = arranged(built, tmp_path / "out")
    assert card.source == {
        archive.name: "sha256:" + files.sha256(built.folder / archive.name) for archive in built.data_set.archives
    }


def test_a_truncated_archive_is_refused(built, arranged, tmp_path):
    archive = built.data_set.archives[0]
    path = built.folder / archive.name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    first = replace(archive, checksum=None)
    built.data_set = replace(built.data_set, archives=(first, *built.data_set.archives[1:]))
    with pytest.raises(UserError, match=rf"{archive.name}: cut short or damaged"):
        arranged(built, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_was_begun_otherwise_is_refused(make, arranged, tmp_path, killed_at, monkeypatch):
    built = make("cub200")
    killed_at(3)
    with pytest.raises(Killed):
        arranged(built, tmp_path / "out", fraction=0.5)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"out\.partial: holds something else \(fraction is 0\.5 there and 1\.0 here\)"):
        arranged(built, tmp_path / "out")
    with pytest.raises(UserError, match="seed is 0 there and 1 here"):
        arranged(built, tmp_path / "out", fraction=0.5, seed=1)
    shutil.rmtree(tmp_path / "out.partial")
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/mine.txt").touch()
    with pytest.raises(UserError, match=r"out\.partial: not begun by this command"):
        arranged(built, tmp_path / "out")
    assert (tmp_path / "out.partial/mine.txt").exists()


def test_files_that_do_not_belong_there_are_named(make, arranged, tmp_path, killed_at, monkeypatch):
    built = make("cub200")
    killed_at(3)
    with pytest.raises(Killed):
        arranged(built, tmp_path / "out")
    monkeypatch.undo()
    mine = tmp_path / "out.partial/train" / FIRST / "mine.jpg"
    mine.write_bytes(picture((0, 0, 0)))
    with pytest.raises(UserError, match=r"Albatross: 1 files do not belong there: mine\.jpg"):
        arranged(built, tmp_path / "out")
    mine.unlink()
    (tmp_path / "out.partial/train/other").mkdir()
    with pytest.raises(UserError, match="class folders that should not be there, or are missing: other"):
        arranged(built, tmp_path / "out")
    (tmp_path / "out.partial/train/other").rmdir()
    arranged(built, tmp_path / "out")


def test_an_image_that_vanished_is_named(make, arranged, tmp_path, monkeypatch):
    built = make("cub200")
    original = arranging.place

    def place(member, target):
        if not target.name.endswith("_0001.jpg"):
            original(member, target)

    monkeypatch.setattr(arranging, "place", place)
    with pytest.raises(UserError, match=r"1 images are missing: Black_footed_Albatross_0001\.jpg"):
        arranged(built, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_complete_folder_is_left_alone(make, arranged, tmp_path):
    built = make("cub200")
    assert complete_card(tmp_path / "out", built.data_set, 1.0, 0) is None
    (tmp_path / "out").mkdir()
    assert complete_card(tmp_path / "out", built.data_set, 1.0, 0) is None
    card = arranged(built, tmp_path / "out")
    shutil.rmtree(built.folder)
    assert complete_card(tmp_path / "out", built.data_set, 1.0, 0) == card
    (tmp_path / "out" / arranging.BEGUN).write_text("{}")  # killed after the last rename
    assert complete_card(tmp_path / "out", built.data_set, 1.0, 0) == card
    assert not (tmp_path / "out" / arranging.BEGUN).exists()


@pytest.mark.parametrize(("fraction", "most"), [(1.0, 18), (0.5, 9 + 6), (0.01, 6)])
def test_the_progress_never_ends_before_the_work(make, arranged, tmp_path, monkeypatch, fraction, most):
    totals = []
    original = arranging.progress
    monkeypatch.setattr(arranging, "progress", lambda what, total: totals.append(total) or original(what, total))
    card = arranged(make("cub200"), tmp_path / "out", fraction=fraction)
    assert totals == [most]
    assert sum(card.images.values()) <= most


def test_a_link_is_followed(make, arranged, seen, tmp_path):
    built = make("cub200")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/out").symlink_to(tmp_path / "large/disk")
    card = arranged(built, tmp_path / "data/out")
    assert seen(tmp_path / "large/disk") == built.truth
    assert (tmp_path / "data/out").is_symlink()
    assert complete_card(tmp_path / "data/out", built.data_set, 1.0, 0) == card
    next((tmp_path / "data/out/train" / FIRST).iterdir()).unlink()
    assert complete_card(tmp_path / "data/out", built.data_set, 1.0, 0) is None
    arranged(built, tmp_path / "data/out")
    assert seen(tmp_path / "data/out") == built.truth
    assert [path.name for path in (tmp_path / "large").iterdir()] == ["disk"]


def test_a_complete_folder_of_something_else_is_refused(make, arranged, tmp_path):
    built = make("cub200")
    out = tmp_path / "out"
    arranged(built, out)
    with pytest.raises(UserError, match=r"holds something else \(fraction is 1\.0 there and 0\.5 here\)"):
        complete_card(out, built.data_set, 0.5, 0)
    with pytest.raises(UserError, match="name is CUB-200-2011 there and Other here"):
        complete_card(out, replace(built.data_set, name="Other"), 1.0, 0)
    (out / "val" / FIRST / "more.jpg").touch()
    with pytest.raises(UserError, match="7 images under val/, and the card says 6"):
        complete_card(out, built.data_set, 1.0, 0)
    (out / "dataset.json").unlink()
    with pytest.raises(UserError, match=r"out: there already, and not made by this command.*prepare_folder\.py"):
        complete_card(out, built.data_set, 1.0, 0)
    with pytest.raises(UserError, match="there already"):
        complete_card(out / "val" / FIRST / "more.jpg", built.data_set, 1.0, 0)


def test_a_folder_with_images_missing_is_completed(make, arranged, seen, tmp_path):
    built = make("cub200")
    out = tmp_path / "out"
    card = arranged(built, out)
    next((out / "train" / FIRST).iterdir()).unlink()
    shutil.rmtree(out / "val")
    assert complete_card(out, built.data_set, 1.0, 0) is None
    assert not out.exists()
    assert read_data_card(tmp_path / "out.partial") is None
    assert arranged(built, out) == card
    assert seen(out) == built.truth
    next((out / "train" / FIRST).iterdir()).unlink()
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(UserError, match="images are missing, and .* is there too; delete one of the two"):
        complete_card(out, built.data_set, 1.0, 0)


def test_a_disk_without_room_is_refused_beforehand(make, arranged, tmp_path, monkeypatch):
    built = make("cub200")
    size = (built.folder / "CUB_200_2011.tgz").stat().st_size
    asked = []

    def ask(folder, needed, purpose):
        asked.append(needed + files.folder_size(folder))

    monkeypatch.setattr(arranging, "require_free_space", ask)
    arranged(built, tmp_path / "out", fraction=0.5)
    assert asked == [round(0.5 * (size + 18 * 4096))]
    monkeypatch.undo()
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"CUB-200-2011 needs 0 MiB and the disk has 0 MiB free; make room"):
        arranged(built, tmp_path / "other")


def test_a_full_disk_is_one_line_and_the_run_goes_on(make, arranged, seen, tmp_path, monkeypatch):
    built = make("cub200")
    original, copied = Member.copy, []

    def copy(member, file):
        if len(copied) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        copied.append(original(member, file))

    monkeypatch.setattr(Member, "copy", copy)
    with pytest.raises(UserError, match="the disk is full; make room and run the same command again"):
        arranged(built, tmp_path / "out")
    monkeypatch.undo()
    arranged(built, tmp_path / "out")
    assert seen(tmp_path / "out") == built.truth


def test_a_file_of_another_size_is_replaced_by_a_link(tmp_path):
    (tmp_path / "source.jpg").write_bytes(b"whole")
    (tmp_path / "target.jpg").write_bytes(b"half")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "source.jpg")
    arranging.place(file_member(tmp_path / "link.jpg", "link.jpg", tmp_path), tmp_path / "target.jpg")
    assert not (tmp_path / "target.jpg").is_symlink()
    assert (tmp_path / "target.jpg").samefile(tmp_path / "source.jpg")


def test_files_are_copied_where_they_cannot_be_linked(make, arranged, seen, tmp_path, monkeypatch):
    built = make("cub200")
    with tarfile.open(built.folder / "CUB_200_2011.tgz") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")

    def link(source, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    arranged(built, tmp_path / "out", unpacked=tmp_path / "unpacked")
    assert seen(tmp_path / "out") == built.truth
    assert {path.stat().st_nlink for path in (tmp_path / "out").glob("*/*/*")} == {1}
