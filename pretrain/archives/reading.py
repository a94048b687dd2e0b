"""Reading archives, and folders of what was in them, alike: file after file, each straight to its place.

Nothing is ever unpacked under a name that an archive gives: a member is read, and what reads it says where it goes. A
member that would lead outside, a link or a device means that the archive is not the one it should be.
"""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from pretrain.console import UserError
from pretrain.files import atomic_path

BLOCK = 1 << 20
CLUSTER = 4096  # bytes that the end of a file takes on a disk
# Suffixes that torchvision's ImageFolder reads.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Member:
    """A file of an archive or of a folder, readable until the next one is asked for.

    Attributes:
        name: Relative path, with slashes.
        size: Bytes.
        source: The archive or folder, for messages.
        open: Returns a stream of its bytes.
        path: Where it lies on the disk; None in an archive.
    """

    name: str
    size: int
    source: Path
    open: Callable[[], IO[bytes]]
    path: Path | None = None

    def copy(self, target: IO[bytes]) -> None:
        """Write the bytes to `target`.

        Raises:
            UserError: The archive is cut short or damaged here.
        """
        with readable(self.source), self.open() as stream:
            shutil.copyfileobj(stream, target, BLOCK)

    def read(self) -> bytes:
        """Return the bytes; see `copy`."""
        target = io.BytesIO()
        self.copy(target)
        return target.getvalue()


def in_memory(name: str, content: bytes, source: Path) -> Member:
    """Return a member whose bytes were made from those of `source`."""
    return Member(name, len(content), source, partial(io.BytesIO, content))


@contextmanager
def readable(source: Path) -> Iterator[None]:
    """Turn what the libraries raise on a damaged archive into a UserError that names it."""
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the archive's
            raise
        what, *_ = str(error).splitlines() or [type(error).__name__]
        raise UserError(f"{source}: cut short or damaged ({what.rstrip(':')}); download it again") from error


@dataclass(frozen=True)
class Source:
    """An archive, or a folder of what was in it.

    Attributes:
        path: A .zip, a tar with any compression, or a folder.
        tops: Folders that are left off names, see `below`.
    """

    path: Path
    tops: tuple[str, ...] = ()

    @property
    def unpacked(self) -> bool:
        """Whether it is a folder."""
        return self.path.is_dir()

    def members(self) -> Iterator[Member]:
        """Yield every file: an archive's in its order, a folder's sorted.

        Raises:
            UserError: The archive is damaged, or holds a link, a device or a path that leads outside.
        """
        if self.unpacked:
            yield from _folder_members(self.path)
        elif self.path.suffix == ".zip":
            yield from _zip_members(self.path)
        else:
            yield from _tar_members(self.path)

    def below(self, name: str) -> str:
        """Return a member's name without the first of `tops` that it begins with."""
        for top in self.tops:
            if name.startswith(top + "/"):
                return name[len(top) + 1 :]
        return name

    def pick(self, wanted: Collection[str], key: Callable[[str], str] | None = None) -> Iterator[tuple[str, Member]]:
        """Yield (name, member) for those of `wanted` that are there.

        Args:
            wanted: Names, as `key` gives them; in a folder, paths.
            key: Turns an archive's own name for a member into one that may be wanted; None: `below`.
        """
        key = key or self.below
        if self.unpacked:
            files = ((name, self.path / name) for name in wanted)
            yield from ((name, file_member(path, name, self.path)) for name, path in files if path.is_file())
        else:
            named = ((key(member.name), member) for member in self.members())
            yield from ((name, member) for name, member in named if name in wanted)

    def read(self, names: Collection[str], key: Callable[[str], str] | None = None) -> dict[str, bytes]:
        """Return the contents of small files; see `pick`.

        Raises:
            UserError: One of them is not there.
        """
        contents: dict[str, bytes] = {}
        for name, member in self.pick(names, key):
            contents[name] = member.read()
            if len(contents) == len(names):
                break
        if missing := [name for name in names if name not in contents]:
            raise UserError(f"{self.path}: no {', '.join(missing)} in it; is it the whole data set? download it again")
        return contents

    def tars(self) -> Iterator[tuple[str, list[Member]]]:
        """Yield (name without its suffix, members) of each tar in this uncompressed tar."""
        with readable(self.path), tarfile.open(self.path, "r:") as outer:
            for entry in _files(outer, self.path):
                with tarfile.open(fileobj=outer.extractfile(entry), mode="r:") as inner:
                    members = [_tar_member(inner, file, self.path) for file in _files(inner, self.path)]
                    yield PurePosixPath(entry.name).stem, members

    def classes(self) -> Iterator[tuple[str, list[Member]]]:
        """Yield (folder, its image files), both sorted, for each folder below this folder."""
        for folder in sorted(path for path in self.path.iterdir() if path.is_dir() and not path.name.startswith(".")):
            files = sorted(entry.name for entry in os.scandir(folder) if is_image(entry.name) and entry.is_file())
            yield folder.name, [file_member(folder / name, f"{folder.name}/{name}", self.path) for name in files]


def basename(name: str) -> str:
    """Return the last part of a member's name."""
    return name.rpartition("/")[2]


def is_image(name: str) -> bool:
    """Return whether a loader would read a file of this name as an image."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def file_member(path: Path, name: str, source: Path) -> Member:
    """Return the file at `path` as a member."""
    return Member(name, path.stat().st_size, source, lambda: path.open("rb"), path)


def place(member: Member, target: Path) -> None:
    """Write a member to `target`, unless a file of its size is there; a file on the same disk is linked, not copied."""
    try:
        if target.stat().st_size == member.size:
            return
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
    if member.path is not None and _linked(member.path, target):
        return
    with atomic_path(target, durable=False) as temporary, temporary.open("wb") as file:
        member.copy(file)


def _linked(path: Path, target: Path) -> bool:
    """Make `target` a second name of the file at `path`; False where the disks do not allow it."""
    try:
        target.unlink(missing_ok=True)
        os.link(path.resolve(), target)
    except OSError:
        return False
    return True


def _folder_members(root: Path) -> Iterator[Member]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            yield file_member(path, path.relative_to(root).as_posix(), root)


def _zip_members(path: Path) -> Iterator[Member]:
    with readable(path), zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name = _inside(entry.filename, path)
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise _refusal(path, entry.filename, "a link")
            if not entry.is_dir():
                yield Member(name, entry.file_size, path, partial(archive.open, entry))


def _tar_members(path: Path) -> Iterator[Member]:
    with readable(path), tarfile.open(path, "r:*") as archive:
        for entry in _files(archive, path):
            yield _tar_member(archive, entry, path)
        assert archive.fileobj is not None
        while archive.fileobj.read(BLOCK):  # up to the checksum at the end of a compressed one
            pass


def _tar_member(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> Member:
    def open_entry() -> IO[bytes]:
        stream = archive.extractfile(entry)
        assert stream is not None  # a regular file has one
        return stream

    return Member(str(PurePosixPath(entry.name)), entry.size, path, open_entry)


def _files(archive: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    while (entry := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # else it keeps all: gigabytes for millions of images
        _inside(entry.name, path)
        if not entry.isdir():
            if not entry.isreg():
                raise _refusal(path, entry.name, "a link or a device")
            yield entry


def _inside(name: str, path: Path) -> str:
    """Return the member's name in its plain form, or refuse one that leads outside."""
    plain = PurePosixPath(name)
    if plain.is_absolute() or ".." in plain.parts or "\\" in name:
        raise _refusal(path, name, "a path that leads outside")
    return str(plain)


def _refusal(path: Path, name: str, what: str) -> UserError:
    return UserError(
        f"{path}: '{name}' in it is {what}, which the real archive does not have; download it again, "
        "or unpack it yourself and name the folder"
    )
