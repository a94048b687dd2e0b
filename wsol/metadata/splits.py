"""Finding a split: in metadata that were named, in those inside the data folder, or in CUB's own files."""

from __future__ import annotations

from pathlib import Path

from pretrain.console import UserError, did_you_mean
from wsol.metadata.csv_files import IDS, read_metadata
from wsol.metadata.cub import read_cub
from wsol.metadata.records import SPLITS, ImageRecord


def read_split(root: str | Path | None, metadata: str | Path | None, split: str) -> tuple[list[ImageRecord], str]:
    """Read a split from where it is found, and say where: "metadata" or "CUB_200_2011".

    Args:
        root: The images' folder: a CUB_200_2011 tree, one that a prepare tool arranged, or any other beside metadata;
            None when only metadata are there.
        metadata: A folder with the four files, or with a folder of them for each split; None looks for
            `root/metadata/<split>`, and then reads the tree's own files.
        split: "train", "val" or "test".

    Raises:
        UserError: See `read_metadata` and `read_cub`.
    """
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}'{did_you_mean(split, list(SPLITS))}")
    if metadata is not None:
        return read_metadata(split_folder(Path(metadata), split)), "metadata"
    if root is None:
        raise UserError("neither a data folder nor metadata was given; give --data or --metadata")
    inside = Path(root) / "metadata"
    if (inside / split).is_dir():
        return read_metadata(inside / split), "metadata"
    if splits_of(inside) and not (Path(root) / "images.txt").is_file():
        return read_metadata(split_folder(inside, split)), "metadata"  # which says what is there
    return read_cub(root, split), "CUB_200_2011"


def split_folder(metadata: Path, split: str) -> Path:
    """Return the folder with the four files of a split: `metadata` itself, or the one of that name in it.

    Raises:
        UserError: It holds, or is, another split and not this one.
    """
    if (metadata / split).is_dir():
        return metadata / split
    if there := splits_of(metadata):
        remedy = "; CUB's comes from CUBV2: tools/prepare_cub.py --cubv2" if split == "val" else ""
        raise UserError(f"{metadata}: no split '{split}' in it, only {', '.join(there)}{remedy}")
    if metadata.name in SPLITS and metadata.name != split:
        raise UserError(
            f"{metadata}: the files of the split '{metadata.name}', not of '{split}'; name the folder above"
        )
    return metadata


def splits_of(metadata: Path) -> list[str]:
    """Return the splits that a folder holds folders of."""
    return [split for split in SPLITS if (metadata / split / IDS).is_file()]
