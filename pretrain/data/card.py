"""The data-set card, ROOT/dataset.json: what a prepared tree holds, so that half of one is never trained on.

{"name": "CIFAR-100", "classes": ["apple", ...], "images": {"train": 50000, "val": 10000}, "fraction": 1.0, "seed": 0,
 "source": {"cifar-100-python.tar.gz": "md5:eb9058c3a382ffc7106e4002c42a8d85"}}
"""

from __future__ import annotations

from dataclasses import asdict, field
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pretrain.console import UserError, first_few
from pretrain.files import read_json, write_json

CARD = "dataset.json"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class DataCard:
    """What a tree of ROOT/train/<class>/ and ROOT/val/<class>/ holds.

    Attributes:
        name: Of the data set, e.g. "CIFAR-100".
        classes: Names of the class folders, sorted; the order of the labels.
        images: Number of images of each split.
        fraction: Share of the source's images that was taken, in (0, 1].
        seed: Decides which ones.
        source: Checksum of each archive the images came from, "md5:..." or "sha256:..."; "not checked, ..." where
            they came from a folder.
    """

    name: str
    classes: list[str]
    images: dict[str, int]
    fraction: float = 1.0
    seed: int = 0
    source: dict[str, str] = field(default_factory=dict)


def write_data_card(root: str | Path, card: DataCard) -> None:
    """Write ROOT/dataset.json, last of all: with it in place the data set is complete."""
    write_json(Path(root) / CARD, asdict(card))


def read_data_card(root: str | Path) -> DataCard | None:
    """Read ROOT/dataset.json; None where there is none, as in a tree that no prepare tool made.

    Raises:
        UserError: The file is damaged or no card.
    """
    path = Path(root) / CARD
    if not path.exists():
        return None
    try:
        return TypeAdapter(DataCard).validate_python(read_json(path))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise UserError(
            f"{path}: not a data-set card ({where}: {problem['msg'].lower()}); prepare the data set again, "
            "or remove the file to go without a card"
        ) from None


def check_against(card: DataCard, root: str | Path, split: str, classes: list[str], count: int, prepare: str) -> None:
    """Compare what was found under ROOT/`split` with the card.

    Args:
        card: The tree's own, see `read_data_card`.
        root: The data set's folder.
        split: "train" or "val".
        classes: Names of the class folders found under ROOT/`split`.
        count: Number of images found there.
        prepare: The command that makes the data set, for the message.

    Raises:
        UserError: A class folder that the card lacks, or the reverse, or another number of images.
    """
    folder = Path(root) / split
    if missing := sorted(set(card.classes) - set(classes)):
        raise UserError(
            f"{folder}: {len(missing)} class folders of {CARD} are not there: {first_few(missing)}; "
            f"run again: {prepare}"
        )
    if extra := sorted(set(classes) - set(card.classes)):
        raise UserError(
            f"{folder}: {len(extra)} class folders are not in {CARD}: {first_few(extra)}; "
            f"remove them, or the card, or run again: {prepare}"
        )
    if split not in card.images:
        raise UserError(f"{Path(root) / CARD}: it counts no images of '{split}'; run again: {prepare}")
    if count < card.images[split]:
        raise UserError(
            f"{root}: half-extracted: {count:,} images under {split}/, the card says {card.images[split]:,}; "
            f"run again: {prepare}"
        )
    if count > card.images[split]:
        raise UserError(
            f"{root}: {count:,} images under {split}/, and the card says {card.images[split]:,}; "
            f"remove what does not belong there, or {CARD}, or run again: {prepare}"
        )
