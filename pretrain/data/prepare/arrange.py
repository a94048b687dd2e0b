"""Arranging a data set as ROOT/{train,val}/<class>/ with its card, so that it is whole or not there.

Everything is written to ROOT.partial, each file under its own name only when it is whole; an interrupted run goes on
where it was. What lies there in the end is compared with what was chosen, name by name; then the card is written, and
the folder takes its own name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.archives.reading import CLUSTER, Member, Source, basename, place
from pretrain.archives.sources import Archive, check, stamp
from pretrain.console import UserError, progress
from pretrain.data.card import CARD, DataCard, check_against, read_data_card, write_data_card
from pretrain.data.prepare.subset import SPLITS, Census, some
from pretrain.files import folder_size, read_json, require_free_space, write_json

BEGUN = ".begun.json"  # in ROOT.partial: what it is going to be


@dataclass(frozen=True)
class Image:
    """An image of a data set, and where it belongs."""

    split: str
    label: str
    name: str
    member: Member


@dataclass(frozen=True)
class DataSet:
    """A data set: what it is made from, and what there is in the end.

    Attributes:
        key: Its folder under data/.
        name: As people call it.
        archives: What it is made from.
        classes: How many it has.
        images: How many it has, by split.
        read: From the sources by role and a census to the images taken. It adds every class to the census.
        command: That arranges it.
        config: To train on it.
    """

    key: str
    name: str
    archives: tuple[Archive, ...]
    classes: int
    images: Mapping[str, int]
    read: Callable[[Mapping[str, Source], Census], Iterator[Image]]
    command: str
    config: str


def from_table(
    source: Source,
    table: Mapping[str, tuple[str, str]],
    census: Census,
    labels: str,
    key: Callable[[str], str] | None = None,
    complete: bool = True,
) -> Iterator[Image]:
    """Yield the images that a table of labels names.

    Args:
        source: Holds the images.
        table: From names in the source to (split, class).
        census: Counts the images and chooses.
        labels: The file with the labels, for messages.
        key: See `Source.pick`.
        complete: Whether the table is all of the data set, which is then checked before anything is unpacked.

    Raises:
        UserError: An image of the table is not in the source, whether it was chosen or not.
    """
    names: dict[tuple[str, str], list[str]] = {}
    for name, where in table.items():
        names.setdefault(where, []).append(basename(name))
    chosen = {where: census.add(*where, files) for where, files in names.items()}
    if complete:
        census.check()
    unseen = set(table)
    for name, member in source.pick(table, key):
        unseen.discard(name)
        if (file := basename(name)) in chosen[table[name]]:
            yield Image(*table[name], file, member)
    if unseen:
        raise UserError(
            f"{source.path}: {len(unseen):,} of the {len(table):,} images that {labels} names are not in it: "
            f"{some(unseen)}; get it again"
        )


def arrange(
    data_set: DataSet, sources: Mapping[str, Source], out: Path, fraction: float = 1.0, seed: int = 0
) -> DataCard:
    """Arrange a data set as `out`, which is not there yet, see `complete_card`.

    Args:
        data_set: What it is.
        sources: Its archives or their contents, by role.
        out: Folder to write.
        fraction: Share of each class to take, in (0, 1].
        seed: Decides which images.

    Returns:
        The card.

    Raises:
        UserError: Checksums, counts or labels are wrong, an archive is damaged, the disk is too small, or OUT.partial
            was begun otherwise.
    """
    out = _followed(out)
    partial = out.with_name(f"{out.name}.partial")
    sums = _begin(data_set, sources, partial, fraction, seed)
    census = Census(data_set.name, data_set.classes, data_set.images, fraction, seed)
    _require_room(data_set, sources, partial, fraction)
    whole = sum(data_set.images.values())
    most = min(whole, round(fraction * whole) + len(SPLITS) * data_set.classes)  # each class is rounded
    with progress(data_set.name, most) as advance:
        for image in data_set.read(sources, census):
            place(image.member, partial / image.split / image.label / image.name)
            advance(note=image.split)
    census.check()
    require_chosen(partial, census)
    card = DataCard(data_set.name, census.labels(), census.taken(), fraction, seed, sums)
    os.sync()  # so that the card is never there without the images
    write_data_card(partial, card)
    partial.replace(out)
    os.sync()
    (out / BEGUN).unlink()
    return card


def complete_card(out: Path, data_set: DataSet, fraction: float, seed: int) -> DataCard | None:
    """Return the card of `out` if that is the data set already, whole; None if it is still to be made.

    A folder with the right card and images missing becomes OUT.partial again.

    Raises:
        UserError: The folder holds something else.
    """
    out = _followed(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    card = read_data_card(out) if out.is_dir() else None
    if card is None:
        raise UserError(
            f"{out}: there already, and not made by this command (no {CARD}); give another --out, or make a card "
            f"for what is there: python tools/prepare_folder.py --extracted {out}"
        )
    there = {"name": card.name, "fraction": card.fraction, "seed": card.seed}
    _require_same(out, there, _wanted(data_set, fraction, seed))
    found = {split: _images_there(out / split) for split in SPLITS}
    if all(sum(found[split].values()) >= card.images.get(split, 0) for split in SPLITS):
        for split, images in found.items():
            check_against(card, out, split, sorted(images), sum(images.values()), data_set.command)
        (out / BEGUN).unlink(missing_ok=True)
        return card
    partial = out.with_name(f"{out.name}.partial")
    if partial.exists():
        raise UserError(f"{out}: images are missing, and {partial} is there too; delete one of the two")
    write_json(out / BEGUN, {**_wanted(data_set, fraction, seed), "checked": {}})
    (out / CARD).unlink()
    out.replace(partial)
    return None


def require_chosen(root: Path, census: Census) -> None:
    """Raise a UserError unless the files under ROOT/{train,val}/<class>/ are those that the census chose."""
    for split, classes in census.chosen.items():
        there = {name for name in os.listdir(root / split) if not name.startswith(".")}
        if odd := there ^ classes.keys():
            raise UserError(f"{root / split}: class folders that should not be there, or are missing: {some(odd)}")
        for label, names in classes.items():
            found = set(os.listdir(root / split / label))
            if missing := names - found:
                raise UserError(
                    f"{root / split / label}: {len(missing):,} images are missing: {some(missing)}; run it again"
                )
            if extra := found - names:
                raise UserError(
                    f"{root / split / label}: {len(extra):,} files do not belong there: {some(extra)}; remove them "
                    "and run it again"
                )


def _followed(out: Path) -> Path:
    """Return where a link leads, so that the folder is made there and the link stays."""
    return out.resolve() if out.is_symlink() else out


def _begin(
    data_set: DataSet, sources: Mapping[str, Source], partial: Path, fraction: float, seed: int
) -> dict[str, str]:
    """Check the archives, note in `partial` what it is going to be, and return the checksums."""
    begun = partial / BEGUN
    note: dict[str, Any] = read_json(begun) if begun.exists() else {}
    if note:
        _require_same(partial, note, _wanted(data_set, fraction, seed))
    elif partial.exists() and any(partial.iterdir()):
        raise UserError(f"{partial}: not begun by this command (no {BEGUN}); delete it, or give another --out")
    sums = check(data_set.archives, sources, note.get("checked", {}))
    packed = [archive for archive in data_set.archives if not sources[archive.role].unpacked]
    checked = {stamp(sources[archive.role].path): sums[archive.name] for archive in packed}
    for leftover in partial.glob("*/*/.*"):  # of a run that was killed while it wrote
        leftover.unlink()
    write_json(begun, {**_wanted(data_set, fraction, seed), "checked": checked})
    return sums


def _wanted(data_set: DataSet, fraction: float, seed: int) -> dict[str, Any]:
    return {"name": data_set.name, "fraction": fraction, "seed": seed}


def _require_same(folder: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    if odd := [f"{key} is {there.get(key)} there and {here[key]} here" for key in here if there.get(key) != here[key]]:
        raise UserError(f"{folder}: holds something else ({'; '.join(odd)}); delete it, or give another --out")


def _images_there(folder: Path) -> dict[str, int]:
    return {label: len(members) for label, members in Source(folder).classes()} if folder.is_dir() else {}


def _require_room(data_set: DataSet, sources: Mapping[str, Source], partial: Path, fraction: float) -> None:
    """Images are compressed already: they take what their archive takes, and the ends of their files."""
    device = partial.stat().st_dev
    needed = CLUSTER * sum(data_set.images.values())
    for archive in data_set.archives:
        source = sources[archive.role]
        if not source.unpacked:
            needed += source.path.stat().st_size
        elif source.path.stat().st_dev != device:  # on the same disk files are linked
            needed += archive.size or 0
    require_free_space(partial, round(fraction * needed) - folder_size(partial), f"{data_set.name}")
