"""From a tree of images to shards, see `pretrain.data.shards`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import cast

from pretrain.console import UserError, progress
from pretrain.data.card import CARD
from pretrain.data.datasets import SPLITS, FolderImages, open_image_folder
from pretrain.data.shards import INDEX, Entry, offsets_of, plan_shards, write_index, write_shard
from pretrain.files import atomic_path, require_free_space


def shard_dataset(root: str | Path, out: str | Path, shard_bytes: int) -> dict[str, tuple[int, int]]:
    """Pack ROOT/train and ROOT/val into shards under `out`, and copy the data-set card.

    What an interrupted call left behind is kept where it is what would be written. Every shard is read again and
    compared with the files it was made from.

    Args:
        root: A data set as a tree of images.
        out: The folder for the shards; new, empty, or of an earlier call.
        shard_bytes: Size of a tar file that is not exceeded unless by a single image.

    Returns:
        {split: (number of images, number of shards)}.

    Raises:
        UserError: `root` is no such tree, `out` holds other things or lies on a disk that is too small, or a shard
            could not be read back.
    """
    root, out = Path(root), Path(out)
    if any((root / split / INDEX).exists() for split in SPLITS):
        raise UserError(f"{root}: it holds shards already; give the tree of images they were made from")
    parts = open_image_folder(root, lambda image: image, lambda image: image, 0, f"(see {CARD} or its documentation)")
    folders = {split: cast(FolderImages, part.folder) for split, part in zip(SPLITS, parts, strict=True)}
    plans = {split: plan_shards(folder.samples, shard_bytes) for split, folder in folders.items()}
    names = {split: [f"{split}-{number:06d}.tar" for number in range(len(plan))] for split, plan in plans.items()}
    for split in SPLITS:
        _require_ours(out / split, names[split])
    images = sum(len(folder) for folder in folders.values())
    entries = [entry for plan in plans.values() for shard in plan for entry in shard]
    there = sum(path.stat().st_size for split in SPLITS for path in (out / split).glob("*.tar"))
    require_free_space(out, sum(entry.size + 2048 for entry in entries) - there, f"packing {images:,} images")
    with progress("packing", images) as advance:
        for split, folder in folders.items():
            finished = []
            for name, shard in zip(names[split], plans[split], strict=True):
                finished.append((name, shard, _written(out / split / name, shard)))
                advance(len(shard))
            write_index(out / split, root / split, folder.classes, finished)
    if (root / CARD).exists():
        with atomic_path(out / CARD) as temporary:
            shutil.copyfile(root / CARD, temporary)
    return {split: (len(folders[split]), len(plans[split])) for split in SPLITS}


def _written(path: Path, entries: list[Entry]) -> list[int]:
    """Return the offsets of a shard that holds `entries`, writing it unless it is there."""
    if (offsets := offsets_of(path, entries)) is not None:
        return offsets
    (path.parent / INDEX).unlink(missing_ok=True)  # of an earlier call, which this shard would no longer fit
    write_shard(path, entries)
    if (offsets := offsets_of(path, entries)) is None:
        path.unlink()
        raise UserError(f"{path}: reads back otherwise than it was written; check the disk, and run again")
    return offsets


def _require_ours(folder: Path, names: list[str]) -> None:
    """Remove temporary files of a call that was killed; raise a UserError where `folder` holds other things."""
    known = {*names, INDEX}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") and path.suffix in (".tar", ".safetensors"):
            path.unlink()
        elif path.name not in known:
            raise UserError(
                f"{path}: not a part of these shards; give an empty folder, or remove it (another --shard-size makes "
                "other shards)"
            )
