"""Images with soft labels, as an offline method such as SuperMix leaves them, joined with the clean images.

SET/images/00000000.png ...     the images, one for each row of the labels
SET/soft_labels.safetensors     "labels": (N, K) float32, rows summing to one
SET/set.json                    classes, count, digest of the labels, and how the set was made
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Dataset

from pretrain.console import UserError
from pretrain.data.datasets import Position, SeededImageFolder, read_augmented
from pretrain.files import atomic_path, read_json, sha256, write_json

LABELS, CARD = "soft_labels.safetensors", "set.json"


class SoftLabelledImages(Dataset[tuple[Tensor, Tensor]]):
    """A set with soft labels; augmentation depends on (seed, epoch, index) alone, as in `SeededImageFolder`.

    Args:
        root: The set's folder.
        transform: From a PIL image to a uint8 tensor (3, H, W); draws from torch's global generator.
        seed: Of the run.

    Raises:
        UserError: The set is missing, unfinished or damaged.
    """

    def __init__(self, root: str | Path, transform: Callable[..., Tensor], seed: int = 0) -> None:
        self.root, self.transform, self.seed = Path(root), transform, seed
        if not self.root.is_dir():
            raise UserError(f"{root}: no such folder; tools/supermix_generate.py makes a set with soft labels")
        card = read_json(self.root / CARD)
        if not isinstance(card, dict) or not {"classes", "count", "sha256"} <= set(card):
            raise UserError(f"{self.root / CARD}: not the card of a complete set; run the command that makes it again")
        self.classes: list[str] = card["classes"]
        self.labels = read_labels(self.root / LABELS, card["sha256"])
        found = sum(1 for _ in (self.root / "images").glob("[0-9]*.png"))
        if not len(self.labels) == found == card["count"] or self.labels.shape[1] != len(self.classes):
            raise UserError(
                f"{root}: there are {found} images and labels {tuple(self.labels.shape)}, but {CARD} says "
                f"{card['count']} images of {len(self.classes)} classes; make the set again in an empty folder"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: Position) -> tuple[Tensor, Tensor]:
        """Return image and label (K,) float32 of `position`, as `EpochSampler` gives it."""
        epoch, index, *repeat = position
        path = image_path(self.root, index)
        return read_augmented(path, self.transform, self.seed, epoch, index, 1, *repeat), self.labels[index]


class JoinedImages(Dataset[tuple[Tensor, Tensor]]):
    """The images of a folder, with one-hot labels, followed by those of a set with soft labels.

    Args:
        folder: The clean images.
        soft: Images of the same classes.

    Raises:
        UserError: The classes, or their order, differ.
    """

    def __init__(self, folder: SeededImageFolder, soft: SoftLabelledImages) -> None:
        require_same_classes(folder.classes, soft.classes, str(soft.root))
        self.folder, self.soft = folder, soft

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their labels."""
        return self.folder.classes

    def __len__(self) -> int:
        return len(self.folder) + len(self.soft)

    def __getitem__(self, position: Position) -> tuple[Tensor, Tensor]:
        """Return image and label (K,) float32 of `position`, see `SoftLabelledImages`."""
        _, index, *_ = position
        if index >= len(self.folder):
            return self.soft[(position[0], index - len(self.folder), *position[2:])]
        image, label = self.folder[position]
        return image, torch.nn.functional.one_hot(torch.tensor(label), len(self.classes)).float()


def require_same_classes(own: list[str], others: list[str], where: str) -> None:
    """Raise a UserError that says which class of `where` is not that of the data set, in the order of the labels."""
    if len(own) != len(others):
        raise UserError(f"{where}: it has {len(others)} classes and the data set {len(own)}; they have to be the same")
    for number, (name, other) in enumerate(zip(own, others)):
        if name != other:
            raise UserError(f"{where}: class {number} is '{other}' there and '{name}' in the data set")


def image_path(root: Path, index: int) -> Path:
    """Return where the image of row `index` lies."""
    return root / "images" / f"{index:08d}.png"


def write_labels(path: Path, labels: Tensor) -> None:
    """Write labels (N, K) float32 atomically."""
    with atomic_path(path) as temporary:
        save_file({"labels": labels.contiguous()}, temporary)


def read_labels(path: Path, digest: str | None = None) -> Tensor:
    """Read labels (N, K) float32.

    Raises:
        UserError: The file is missing, damaged, or its SHA-256 is not `digest`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; make the set again in an empty folder")
    if digest is not None and sha256(path) != digest:
        raise UserError(f"{path}: its SHA-256 is not the one in {CARD}; make the set again in an empty folder")
    try:
        return load_file(path)["labels"]
    except (SafetensorError, KeyError) as error:
        raise UserError(f"{path}: not a file of labels ({error}); make the set again in an empty folder") from error


def write_card(root: Path, classes: list[str], count: int, **made: Any) -> None:
    """Write SET/set.json, last of all: with it in place the set is complete."""
    write_json(root / CARD, {"classes": classes, "count": count, "sha256": sha256(root / LABELS), **made})
