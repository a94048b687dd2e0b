"""Where a data set's archives come from, where they lie here, and whether they are the right ones."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pretrain.archives.reading import BLOCK, Source
from pretrain.console import UserError, progress

UNPACKED = "not checked, unpacked before"


@dataclass(frozen=True)
class Archive:
    """A file that a data set is made from.

    Attributes:
        role: What the data set calls it, e.g. "images".
        name: Its file name.
        size: Bytes, as exactly as they were found stated; None where they were not.
        url: Where it is.
        checksum: "md5:..." or "sha256:..."; None where no source for one was found.
        login: What has to be done before it can be downloaded; "" for nothing.
        also: Other names that it goes under, as glob patterns.
        tops: Folders in it that the data set's names leave off; "" where there may be none.
        proofs: Patterns, one of which is there below one of `tops` where it was unpacked.
    """

    role: str
    name: str
    size: int | None
    url: str
    checksum: str | None
    login: str = ""
    also: tuple[str, ...] = ()
    tops: tuple[str, ...] = ("",)
    proofs: tuple[str, ...] = ("*",)

    def packed(self, folder: Path) -> Source | None:
        """Return the archive in `folder`, or None."""
        found = [path for name in (self.name, *self.also) for path in sorted(folder.glob(name)) if path.is_file()]
        return Source(found[0], self.tops) if found else None

    def unpacked(self, folder: Path) -> Source | None:
        """Return what was in the archive, below `folder`, or None."""
        places = [folder / top for top in self.tops]
        found = [place for place in places if any(any(place.glob(proof)) for proof in self.proofs)]
        return Source(found[0], self.tops) if found else None


def find(archives: Sequence[Archive], packed: Path, unpacked: Path | None) -> tuple[dict[str, Source], list[Archive]]:
    """Look for archives.

    Args:
        archives: What a data set needs.
        packed: Folder where they are looked for.
        unpacked: Folder where their contents are looked for first; None: nowhere.

    Returns:
        What was found, by role, and the archives that were not.
    """
    found: dict[str, Source] = {}
    for archive in archives:
        if source := (unpacked and archive.unpacked(unpacked)) or archive.packed(packed):
            found[archive.role] = source
    return found, [archive for archive in archives if archive.role not in found]


def missing_message(name: str, missing: Sequence[Archive], packed: Path, unpacked: Path | None, command: str) -> str:
    """Return what to say of archives that are not there.

    Args:
        name: Of the data set.
        missing: The archives.
        packed, unpacked: Where they were looked for, see `find`.
        command: To run when they are there.
    """
    where = f"{packed}, nor unpacked in {unpacked}" if unpacked else f"{packed}"
    text = [f"{name} is made from files that are not in {where}:"]
    for archive in missing:
        text.append(f"  {archive.name}  {size_text(archive.size)}, {archive.checksum or 'no published checksum known'}")
        text.append(f"    {archive.url}, {archive.login or 'no login'}")
    download = "" if any(archive.login for archive in missing) else " (or with --download, which fetches them)"
    text.append(f"  then:  {command} --archives {packed}{download}")
    text.append(f"  if they are unpacked already:  {command} --extracted DIR")
    return "\n".join(text)


def size_text(size: int | None) -> str:
    """Return a size as its publishers give it: 1.15 GB."""
    if size is None:
        return "size not known"
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"


def check(archives: Sequence[Archive], found: Mapping[str, Source], known: Mapping[str, str]) -> dict[str, str]:
    """Compare the checksum of every archive with the one it should have.

    Args:
        archives: Those of the data set.
        found: Where they lie, by role.
        known: Checksums that an earlier, interrupted run found, by `stamp`; these are not taken again.

    Returns:
        The checksum of each archive by its name. One without a known checksum gets its SHA-256; what was unpacked
        before is `UNPACKED`.

    Raises:
        UserError: A checksum is wrong.
    """
    sums: dict[str, str] = {}
    for archive in archives:
        source = found[archive.role]
        if source.unpacked:
            sums[archive.name] = UNPACKED
            continue
        algorithm = (archive.checksum or "sha256:").partition(":")[0]
        sums[archive.name] = known.get(stamp(source.path)) or f"{algorithm}:{checksum(source.path, algorithm)}"
        require_checksum(archive, source.path, sums[archive.name])
    return sums


def require_checksum(archive: Archive, path: Path, found: str) -> None:
    """Raise a UserError unless `found` is the archive's checksum, or none is known."""
    if archive.checksum is not None and found != archive.checksum:
        raise UserError(
            f"{path}: its checksum is {found}, and {archive.checksum} is that of {archive.name}; delete it and "
            f"download it again from {archive.url}"
        )


def stamp(path: Path) -> str:
    """Return what changes whenever a file is written anew: name, size and time."""
    status = path.stat()
    return f"{path.name} {status.st_size} {status.st_mtime_ns}"


def checksum(path: Path, algorithm: str) -> str:
    """Return the file's checksum in hexadecimal digits, with progress."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    total = path.stat().st_size
    with path.open("rb") as file, progress(f"checksum of {path.name}, MiB", -(-total // BLOCK)) as advance:
        while block := file.read(BLOCK):
            digest.update(block)
            advance()
    return digest.hexdigest()
