"""Checking a whole set before it is evaluated: every mistake in its files, its images and its score maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pretrain.console import UserError, progress
from wsol.metadata.csv_files import IDS, METADATA_FILES, collect_records
from wsol.metadata.finding import image_size, look_for
from wsol.metadata.problems import Problems
from wsol.metadata.records import ImageRecord, boxes_digest
from wsol.metadata.splits import split_folder, splits_of

DIGEST_SIZE = 224  # pixels; the published digests are of boxes at this size


@dataclass(frozen=True)
class Checked:
    """What was found in one split.

    Attributes:
        folder: With its CSV files.
        problems: Every mistake, in one line each but for missing files; the place comes first.
        counts: What there is, in words, from the lines that are right.
    """

    folder: Path
    problems: list[str]
    counts: list[str]


def check_set(
    metadata: str | Path, split: str | None = None, data: str | Path | None = None, scoremaps: str | Path | None = None
) -> list[Checked]:
    """Check a set of CSV files as `wsol.metadata.read_metadata` reads them.

    Args:
        metadata: A folder with the four files, or with a folder of them for each split.
        split: Which of the splits; None checks all.
        data: The images' folder; with it, each image and each mask must be there, and of its size.
        scoremaps: A folder of `IMAGE_ID.npy`; with it, there must be one for each image, and no other but those of the
            set's other splits.

    Raises:
        UserError: There is no such folder or split.
    """
    metadata = Path(metadata)
    if not metadata.is_dir():
        raise UserError(f"{metadata}: no such folder; it should hold {', '.join(METADATA_FILES)}")
    for folder in (data, scoremaps):
        if folder is not None and not Path(folder).is_dir():
            raise UserError(f"{folder}: no such folder")
    splits = splits_of(metadata) if split is None else [split]
    folders = [split_folder(metadata, each) for each in splits] or [metadata]
    if scoremaps is not None and len(folders) > 1:
        raise UserError(f"{metadata} holds {len(folders)} splits, and score maps are of one: give --split")
    siblings = [split_folder(metadata, each) for each in splits_of(metadata) if each != split]
    return [check_split(folder, data, scoremaps, siblings) for folder in folders]


def check_split(
    folder: Path, data: str | Path | None, scoremaps: str | Path | None, siblings: Sequence[Path] = ()
) -> Checked:
    """Check one split; see `check_set`. A split called "train" may go without boxes and masks.

    Score maps of the siblings, the set's other splits, may lie beside the split's own.
    """
    problems = Problems(gather=True)
    records = collect_records(folder, problems, localised=folder.name != "train")
    if data is not None:
        _check_images(Path(data), records, problems)
    if scoremaps is not None and records:
        _check_scoremaps(Path(scoremaps), records, siblings, problems)
    return Checked(folder, problems.found, list(_counts(records)) if records else [])


def _counts(records: Sequence[ImageRecord]) -> Iterator[str]:
    each = Counter(record.label for record in records)
    yield f"{len(records):,} images"
    yield f"{len(each):,} classes, {min(each.values()):,} to {max(each.values()):,} images in each"
    if unused := sorted(set(range(max(each) + 1)) - each.keys()):
        yield f"labels run to {max(each)}, and {len(unused):,} of them have no image, from {unused[0]}"
    boxes, masks = (sum(len(getattr(record, name)) for record in records) for name in ("boxes", "masks"))
    if boxes:
        yield f"{boxes:,} boxes, 1 to {max(len(record.boxes) for record in records)} an image"
        yield f"sha256 of the boxes at {DIGEST_SIZE}: {boxes_digest(records, DIGEST_SIZE)}"
    if masks:
        ignored = sum(bool(record.ignore) for record in records)
        yield f"{masks:,} masks, and {ignored:,} masks of what is ignored"
    if not boxes and not masks:
        yield "no boxes or masks: images to train on"


def _check_images(root: Path, records: Sequence[ImageRecord], problems: Problems) -> None:
    with progress("images", len(records)) as advance:
        for record in records:
            path = look_for(root, record.image_id)
            if path is None:
                problems.report(root, f"no image '{record.image_id}' in it")
            else:
                _check_size(path, record, problems)
            for mask in (*record.masks, *filter(None, [record.ignore])):
                if look_for(root, mask) is None:
                    problems.report(root, f"no mask '{mask}' of '{record.image_id}' in it")
            advance()


def _check_size(path: Path, record: ImageRecord, problems: Problems) -> None:
    try:
        width, height = image_size(path)
    except UserError as error:
        problems.report(path, str(error).removeprefix(f"{path}: "))
        return
    if any(record.size) and (width, height) != record.size:
        problems.report(
            path,
            f"'{record.image_id}' is {width} x {height} pixels, and {record.size[0]} x {record.size[1]} in "
            "image_sizes.txt",
        )


def _check_scoremaps(
    folder: Path, records: Sequence[ImageRecord], siblings: Sequence[Path], problems: Problems
) -> None:
    ids = {record.image_id for record in records}
    others = {line.strip() for sibling in siblings for line in (sibling / IDS).read_text(encoding="utf-8").splitlines()}
    there = {path.relative_to(folder).as_posix().removesuffix(".npy") for path in folder.rglob("*.npy")}
    for record in records:
        if record.image_id not in there:
            problems.report(folder, f"no score map '{record.image_id}.npy' in it")
    for extra in sorted(there - ids - others):
        problems.report(folder, f"the score map '{extra}.npy' is of no image of this set")
