"""The split to evaluate, and val beside it, on which thresholds are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pretrain.console import UserError, first_few
from wsol.metadata import ImageRecord, read_split


@dataclass(frozen=True)
class Splits:
    """What is evaluated.

    Attributes:
        records: The images of the split.
        records_from: Where they were found: "metadata" or "CUB_200_2011".
        val: The images on which thresholds are chosen; None for none.
        why_no_val: Why there are none, for the report.
    """

    records: Sequence[ImageRecord]
    records_from: str
    val: Sequence[ImageRecord] | None = None
    why_no_val: str = ""

    @property
    def masks(self) -> bool:
        """Whether the truth is masks, not boxes."""
        return bool(self.records[0].masks)


def read_splits(data: str | Path | None, metadata: str | Path | None, split: str, threshold_from: str) -> Splits:
    """Read a split and, where thresholds are to be chosen on it, val.

    Args:
        data: Root of the images, or None.
        metadata: Folder of wsolevaluation's files; see `wsol.metadata.read_split`.
        split: "train", "val" or "test".
        threshold_from: "val", "none", or "auto", which is val where its metadata are.

    Raises:
        UserError: See `read_split`; or val was asked for and is not there, or shares images with the split.
    """
    records, records_from = read_split(data, metadata, split)
    found = Splits(records, records_from)
    folder = (Path(metadata) if metadata is not None else Path(str(data)) / "metadata") / "val"
    if found.masks:
        return replace(found, why_no_val="PxAP needs no threshold")
    if split == "val":
        return replace(found, why_no_val="val itself is evaluated")
    if threshold_from == "none":
        return replace(found, why_no_val="not asked for")
    if not folder.is_dir():
        if threshold_from == "val":
            raise UserError(f"{folder}: no such folder, so that no threshold can be chosen on val; see docs/wsol.md")
        return replace(found, why_no_val="there are no metadata of val")
    val, _ = read_split(data, metadata, "val")
    if both := {record.image_id for record in val} & {record.image_id for record in records}:
        raise UserError(
            f"{folder}: {len(both)} of its images are of the split '{split}' too ({first_few(sorted(both))}); "
            "thresholds must be chosen on other images"
        )
    return replace(found, val=val)
