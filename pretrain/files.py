"""Writing files so that a reader never sees half of one, and knowing beforehand that they will fit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretrain.console import DISK_IS_FULL, UserError, disk_is_full


@contextmanager
def atomic_path(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends without an error it takes `path`'s place.

    The data are flushed to the disk before the rename, so that after a crash either the old file or the whole new
    one is there. On an error the temporary file is removed and `path` is left as it was. `durable=False` leaves the
    flushing to the system, for many small files that can be made again.

    Raises:
        UserError: The disk is full, or the user's share of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
        if durable:
            _flush_folder(path.parent)
    except BaseException as error:
        full = _for_want_of_room(error, temporary)
        temporary.unlink(missing_ok=True)
        if full:
            raise UserError(f"{path}: {DISK_IS_FULL}") from error
        raise


def _for_want_of_room(error: BaseException, temporary: Path) -> bool:
    """Return whether writing failed because the disk is full; torch calls that "unexpected pos", so it is tried out."""
    if isinstance(error, UserError) or not isinstance(error, Exception):
        return False
    try:
        with temporary.open("ab") as file:
            file.write(bytes(1 << 16))
    except OSError as refusal:
        error = refusal
    return disk_is_full(error)


def _flush_folder(folder: Path) -> None:
    """Flush the folder's entries, so that a rename outlives a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 `text` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` atomically; NaN and infinities are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Return what the JSON file holds; a missing or damaged file is a UserError that names it."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and make it again") from error


def sha256(path: str | Path) -> str:
    """Return the file's SHA-256 as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def folder_size(folder: str | Path) -> int:
    """Return the bytes of all files below `folder`; 0 where it does not exist."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def require_writable(folder: str | Path) -> None:
    """Make the folder if need be, and raise a UserError where no file can be written into it."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{folder}: no file can be written there ({error.strerror}); name another folder") from error


def require_free_space(folder: str | Path, needed: int, purpose: str) -> None:
    """Raise a UserError if the disk that holds `folder` has fewer than `needed` bytes free."""
    existing = Path(folder).absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise UserError(
            f"{folder}: {purpose} needs {needed / 2**20:,.0f} MiB and the disk has {free / 2**20:,.0f} MiB free; "
            "make room, or choose a folder on another disk"
        )
