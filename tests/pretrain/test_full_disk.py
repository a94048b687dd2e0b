"""A disk that is full: one line that names the file, nothing half-written. /dev/full refuses as such a disk does."""

import errno
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from pretrain import files
from pretrain.console import UserError, disk_is_full, run_tool
from pretrain.files import atomic_path, write_text
from pretrain.training.checkpoint import FILE_NAME, load_state, save_state

ROOM = "the disk is full; make room and run the same command again"


@pytest.fixture
def full(monkeypatch):
    """Let every file that is written beside its place lie on the full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    made = files.tempfile.mkstemp

    def mkstemp(**where):
        handle, name = made(**where)
        os.unlink(name)
        os.symlink("/dev/full", name)
        return handle, name

    monkeypatch.setattr(files.tempfile, "mkstemp", mkstemp)


def test_the_file_is_named_and_the_old_one_stays(full, tmp_path):
    path = tmp_path / "run.json"
    path.write_text("old")
    with pytest.raises(UserError) as told:
        write_text(path, "new")
    assert str(told.value) == f"{path}: {ROOM}"
    with pytest.raises(UserError, match=ROOM), atomic_path(path) as temporary:
        Image.new("L", (9, 9)).save(temporary, format="png")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("run.json", "old")]


def test_a_training_state_names_its_file_and_leaves_the_old_one(tmp_path, request):
    save_state(tmp_path, {"step": 1, "settings": {}})
    request.getfixturevalue("full")
    with pytest.raises(UserError, match=rf"{FILE_NAME}: {ROOM}"):
        save_state(tmp_path, {"step": 2, "settings": {}, "weights": torch.zeros(100_000)})
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]
    assert load_state(tmp_path, {})["step"] == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_tool_says_it_in_one_line_wherever_it_is_met(number, capsys):
    def main():
        raise OSError(number, os.strerror(number))

    with pytest.raises(SystemExit) as stop:
        run_tool(main)
    assert (stop.value.code, capsys.readouterr().err) == (2, f"error: {ROOM}\n")


def test_other_errors_stay_what_they_are(tmp_path):
    def main():
        raise PermissionError(errno.EACCES, "Permission denied", "there")

    with pytest.raises(PermissionError):
        run_tool(main)
    with pytest.raises(ValueError, match="odd"), atomic_path(tmp_path / "a"):
        raise ValueError("odd")
    assert not list(tmp_path.iterdir())


def test_safetensors_has_it_in_words_alone():
    words = "Error while serializing: I/O error: No space left on device (os error 28)"  # as met on a full tmpfs
    assert disk_is_full(RuntimeError(words))
    assert not disk_is_full(RuntimeError("Error while serializing: I/O error: Permission denied (os error 13)"))
