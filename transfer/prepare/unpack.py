"""Unpacking the official archives into the tree that Detectron2 and MMDetection read.

Only what detection reads is written: of VOC the pictures, annotations and ImageSets/Main, of COCO the pictures and
instances_*.json. Every file gets its own name when it is whole; one that is there with its full size is left alone, so
that an interrupted run goes on. Meanwhile FOLDER/.unpacking says that the folder is not complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pretrain.archives.download import download
from pretrain.archives.reading import CLUSTER, Source, place
from pretrain.archives.sources import Archive, checksum, require_checksum
from pretrain.console import UserError, did_you_mean, progress, tell
from pretrain.files import require_free_space, write_text
from transfer.datasets import UNPACKING, VERIFIED
from transfer.prepare.official import Family

HALF_WRITTEN = re.compile(r"\..+\.[a-z0-9_]{8}\.(jpg|xml|txt|json)")  # see pretrain.files.atomic_path


def gather(family: Family, archives: Sequence[Path], folder: Path | None) -> list[Path]:
    """Return the archives that were named and, if there is a folder, all the others from it, downloaded where missing.

    Raises:
        UserError: A download failed, see `pretrain.archives.download`.
    """
    if folder is None:
        return list(archives)
    named = {path.name: path for path in archives}
    for archive in family.archives:
        if archive.name not in named:
            there = folder / archive.name
            named[archive.name] = there if there.is_file() else download(archive, folder)
    return list(named.values())


def unpack(family: Family, archives: Sequence[Path], root: Path, subset: bool) -> None:
    """Unpack archives below `root`; what is wrong with one of them is told before any is unpacked.

    Args:
        family: Which sets.
        archives: Files with the names of the official ones.
        root: The folder of the data sets.
        subset: Whether they are other sets in the same layout: their checksums are not compared.

    Raises:
        UserError: A name is unknown, a checksum is wrong, an archive is damaged or holds a path that leads outside,
            or the disk is too small.
    """
    known = [(path, _recognised(family, path)) for path in archives]
    for path, archive in known:
        if subset:
            tell(f"{path}: its checksum is not compared (--subset)")
        else:
            require_checksum(archive, path, f"md5:{checksum(path, 'md5')}")
    plans = [(path, _plan(family, path, root)) for path, _ in known]
    folder = root / family.folder
    for path, sizes in plans:
        missing = {target: size for target, size in sizes.items() if not _is_there(target, size)}
        if missing:
            needed = sum(missing.values()) + CLUSTER * len(missing)
            require_free_space(root, needed, f"unpacking {path.name}")
            (folder / VERIFIED).unlink(missing_ok=True)
            write_text(folder / UNPACKING, f"{path.name} is being unpacked; {family.command} goes on\n")
            _remove_half_written({target.parent for target in missing})
            _write(family, path, missing.keys(), root)
    (folder / UNPACKING).unlink(missing_ok=True)


def _recognised(family: Family, path: Path) -> Archive:
    """Return which of the official archives a file is, by its name."""
    by_name = {archive.name: archive for archive in family.archives}
    if not path.is_file():
        raise UserError(f"{path}: no such archive; without one, {family.command} --out DIR checks what is there")
    if path.name not in by_name:
        raise UserError(
            f"{path}: none of the archives of {family.title} has this name{did_you_mean(path.name, list(by_name))}"
        )
    return by_name[path.name]


def _plan(family: Family, path: Path, root: Path) -> dict[Path, int]:
    """Return {where it goes: bytes} for what detection reads of an archive."""
    sizes: dict[Path, int] = {}
    for member in Source(path).members():
        if target := family.target(member.name, root):
            sizes[target] = member.size
    if not sizes:
        tree = "\n".join(f"  {line}" for line in family.expected)
        raise UserError(f"{path}: nothing in it that belongs to\n{tree}\ndownload it again")
    return sizes


def _write(family: Family, path: Path, missing: Iterable[Path], root: Path) -> None:
    wanted = set(missing)
    with progress(f"unpacking {path.name}", len(wanted)) as advance:
        for member in Source(path).members():
            target = family.target(member.name, root)
            if target in wanted:
                place(member, target)
                advance()


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _remove_half_written(folders: Iterable[Path]) -> None:
    """Remove what a run that was killed outright left under temporary names."""
    for folder in folders:
        for path in folder.glob(".*"):
            if HALF_WRITTEN.fullmatch(path.name):
                path.unlink()
