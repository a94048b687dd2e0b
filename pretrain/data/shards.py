"""Image folders packed into a few large files, any image of which is read by its offset.

SPLIT/SPLIT-000000.tar ...     tar files in webdataset's format: 00000012.jpg, the file as it was, and 00000012.cls
SPLIT/index.safetensors        "shard", "offset", "size", "label": (N,) int64 of each image, in ImageFolder's order;
                               "names": their paths as UTF-8, each ended by a zero; classes and sizes of the shards

A file system that is slow to open files, as a cluster's often is, is asked for a few hundred instead of a million.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pretrain.console import UserError
from pretrain.files import atomic_path

INDEX = "index.safetensors"
COLUMNS = ("shard", "offset", "size", "label")
OPEN_FILES = 256  # of a process and split; systems allow about a thousand
BLOCK = tarfile.BLOCKSIZE
REMEDY = "run tools/shard_dataset.py again"


@dataclass(frozen=True)
class Entry:
    """An image to be packed: its number in ImageFolder's order, its file, and the number of its class."""

    number: int
    path: Path
    label: int
    size: int

    @property
    def members(self) -> tuple[tuple[str, bytes | None], tuple[str, bytes]]:
        """Names in the tar file and their contents; None: those of the file."""
        key = f"{self.number:08d}"
        return (f"{key}{self.path.suffix.lower()}", None), (f"{key}.cls", str(self.label).encode())


def plan_shards(samples: Sequence[tuple[str, int]], shard_bytes: int) -> list[list[Entry]]:
    """Return what goes into each shard: images in order, until another would exceed `shard_bytes`.

    Args:
        samples: File and class of each image, as ImageFolder lists them.
        shard_bytes: Size of a tar file that is not exceeded unless by a single image.
    """
    shards: list[list[Entry]] = []
    filled = shard_bytes
    for number, (path, label) in enumerate(samples):
        entry = Entry(number, Path(path), label, os.stat(path).st_size)
        length = 2 * BLOCK + _padded(entry.size) + BLOCK
        if filled + length > shard_bytes - tarfile.RECORDSIZE:
            shards.append([])
            filled = 0
        shards[-1].append(entry)
        filled += length
    return shards


def write_shard(path: Path, entries: Sequence[Entry]) -> None:
    """Write a tar file, which depends on the images alone, atomically."""
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for entry in entries:
            for name, content in entry.members:
                content = entry.path.read_bytes() if content is None else content
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def offsets_of(path: Path, entries: Sequence[Entry]) -> list[int] | None:
    """Return where each image begins in the tar file, None unless it holds exactly these images, byte for byte."""
    offsets = []
    try:
        with tarfile.open(path, "r:") as tar:
            members = iter(tar)
            for entry in entries:
                for name, content in entry.members:
                    member = next(members, None)
                    if member is None or member.name != name:
                        return None
                    if content is None:
                        content = entry.path.read_bytes()
                        offsets.append(member.offset_data)
                    stored = tar.extractfile(member)
                    if stored is None or stored.read() != content:
                        return None
            return offsets if next(members, None) is None else None
    except (FileNotFoundError, tarfile.TarError):
        return None


def write_index(
    folder: Path, root: Path, classes: list[str], shards: Sequence[tuple[str, list[Entry], list[int]]]
) -> None:
    """Write SPLIT/index.safetensors, last of all: with it in place the split is complete.

    Args:
        folder: The split's.
        root: The folder the images came from; their names are relative to it.
        classes: Names of the classes, in the order of their labels.
        shards: Name, images and offsets of each tar file.
    """
    rows = [
        (number, offset, entry.size, entry.label)
        for number, (_, entries, offsets) in enumerate(shards)
        for entry, offset in zip(entries, offsets)
    ]
    columns = {name: np.array(column, dtype=np.int64) for name, column in zip(COLUMNS, zip(*rows))}
    names = [entry.path.relative_to(root).as_posix() for _, entries, _ in shards for entry in entries]
    text = "".join(f"{name}\0" for name in names).encode("utf-8", "surrogateescape")
    columns["names"] = np.frombuffer(text, dtype=np.uint8)
    sizes = {name: (folder / name).stat().st_size for name, _, _ in shards}
    with atomic_path(folder / INDEX) as temporary:
        save_file(columns, temporary, {"about": json.dumps({"classes": classes, "shards": sizes})})


class ShardedImages:
    """The images of a split in shards, in ImageFolder's order.

    Tar files are opened by the process that reads of them, when it first does.

    Args:
        root: The split's folder.

    Raises:
        UserError: The index is damaged or does not fit the tar files, or one of these is missing or truncated.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._files: OrderedDict[int, io.BufferedReader] = OrderedDict()
        try:
            with safe_open(self.root / INDEX, "np") as file:
                self._shard, self._offset, self._size, self._label = (file.get_tensor(name) for name in COLUMNS)
                names = file.get_tensor("names")
                about = json.loads(file.metadata()["about"])
            self.classes: list[str] = about["classes"]
            sizes: dict[str, int] = about["shards"]
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.root / INDEX}: not the index of a data set in shards; {REMEDY}") from error
        self._shards = list(sizes)
        self._text = names
        self._ends = np.flatnonzero(names == 0)
        for name, size in sizes.items():
            self._require_whole(name, size)
        self._require_fitting(np.array(list(sizes.values())))

    def __len__(self) -> int:
        return len(self._label)

    def label(self, index: int) -> int:
        """Return the number of an image's class."""
        return int(self._label[index])

    def name(self, index: int) -> str:
        """Return in words where an image lies: its shard, and the file it was made from."""
        start = self._ends[index - 1] + 1 if index else 0
        name = self._text[start : self._ends[index]].tobytes().decode("utf-8", "surrogateescape")
        return f"{self.root / self._shards[self._shard[index]]}: {name}"

    def source(self, index: int) -> io.BytesIO:
        """Return an image's file.

        Raises:
            UserError: The shard went missing, or became shorter, since the data set was opened.
        """
        shard, size = int(self._shard[index]), int(self._size[index])
        path = self.root / self._shards[shard]
        try:
            found = os.pread(self._file(shard, path).fileno(), size, int(self._offset[index]))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error
        if len(found) != size:
            raise UserError(f"{path}: truncated while it was in use; {REMEDY}")
        return io.BytesIO(found)

    def _file(self, shard: int, path: Path) -> io.BufferedReader:
        if shard not in self._files:
            if len(self._files) == OPEN_FILES:
                self._files.popitem(last=False)[1].close()
            self._files[shard] = path.open("rb")
        self._files.move_to_end(shard)
        return self._files[shard]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_files": OrderedDict()}  # a process that is handed the set opens files of its own

    def _require_whole(self, name: str, size: int) -> None:
        path = self.root / name
        if not path.is_file():
            raise UserError(f"{path}: no such file, and {INDEX} lists it; {REMEDY}")
        if (found := path.stat().st_size) != size:
            raise UserError(f"{path}: {found:,} bytes, and {INDEX} says {size:,}: truncated or changed; {REMEDY}")

    def _require_fitting(self, sizes: np.ndarray) -> None:
        count = len(self._label)
        columns = (self._shard, self._offset, self._size, self._label)
        fits = all(column.shape == (count,) and (column >= 0).all() for column in columns) and len(self._ends) == count
        if fits and count:
            fits = self._shard.max() < len(sizes) and self._label.max() < len(self.classes)
            fits = fits and bool((self._offset + self._size <= sizes[self._shard]).all())
        if not fits:
            raise UserError(f"{self.root / INDEX}: does not fit the tar files beside it; {REMEDY}")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
