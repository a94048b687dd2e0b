"""Which images of a data set are taken, and whether the whole of it was there."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping

from pretrain.console import UserError, first_few

SPLITS = {"train": "training", "val": "validation"}


def choose(names: Collection[str], count: int, seed: int, label: str) -> frozenset[str]:
    """Return `count` of the names of a class.

    They are those whose SHA-256, together with seed and class, comes first. So the choice depends on these alone, on
    every machine and in every order, and a smaller one is part of a larger one.
    """
    if count >= len(names):
        return frozenset(names)
    return frozenset(sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{label}/{name}".encode()).digest())[:count])


class Census:
    """Counts a source's images class by class, and says which of them are taken.

    Args:
        name: Of the data set, for messages.
        classes: How many the whole source has.
        images: How many images the whole source has, by split.
        fraction: Share to take of each class and split, in (0, 1]; at least one image.
        seed: Decides which ones.
    """

    def __init__(
        self, name: str, classes: int, images: Mapping[str, int], fraction: float = 1.0, seed: int = 0
    ) -> None:
        self.name, self.classes, self.images, self.fraction, self.seed = name, classes, images, fraction, seed
        self.whole: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self.chosen: dict[str, dict[str, frozenset[str]]] = {split: {} for split in SPLITS}

    def add(self, split: str, label: str, names: Collection[str]) -> frozenset[str]:
        """Count the images of a class and return the names of those that are taken.

        Args:
            split: "train" or "val".
            label: Name of the class, and of its folder.
            names: File names of all its images in this split.

        Raises:
            UserError: A name cannot be that of a file or stands there twice, or the class is there for a second time.
        """
        for part in (label, *names):
            _require_plain(part, self.name)
        if label in self.chosen[split]:
            raise UserError(f"{self.name}: class '{label}' is there twice under {split}; download the archives again")
        if len(set(names)) < len(names):
            twice = next(name for name, times in Counter(names).items() if times > 1)
            raise UserError(f"{self.name}: class '{label}' has two images '{twice}' under {split}; download it again")
        self.whole[split][label] = len(names)
        count = max(1, round(self.fraction * len(names)))
        self.chosen[split][label] = choose(names, count, self.seed, label)
        return self.chosen[split][label]

    def labels(self) -> list[str]:
        """Return the names of all classes, sorted."""
        return sorted(self.whole["train"].keys() | self.whole["val"].keys())

    def taken(self) -> dict[str, int]:
        """Return the number of images taken, by split."""
        return {split: sum(map(len, classes.values())) for split, classes in self.chosen.items()}

    def check(self) -> None:
        """Compare the whole source with what it should be.

        Raises:
            UserError: The numbers of classes or images disagree, or a class is in one split only.
        """
        for split, what in SPLITS.items():
            found, due = sum(self.whole[split].values()), self.images[split]
            if found != due:
                raise UserError(
                    f"{self.name}: {found:,} {what} images in the source, {abs(due - found):,} too "
                    f"{'few' if found < due else 'many'}: there should be {due:,}; get the whole source, or arrange "
                    "what there is with tools/prepare_folder.py"
                )
        if odd := sorted(self.whole["train"].keys() ^ self.whole["val"].keys()):
            raise UserError(
                f"{self.name}: {len(odd)} classes are not in both splits: {some(odd)}; get the whole source"
            )
        if len(self.labels()) != self.classes:
            raise UserError(
                f"{self.name}: {len(self.labels()):,} classes in the source, and there should be {self.classes:,}; "
                "get the whole source, or arrange what there is with tools/prepare_folder.py"
            )


def require_fraction(fraction: float) -> None:
    """Raise a UserError unless the fraction lies in (0, 1]."""
    if not 0 < fraction <= 1:
        raise UserError(f"--fraction is {fraction}, and a share above 0 and up to 1 is due, such as 0.1")


def some(names: Collection[str], count: int = 3) -> str:
    """Return the first few names in their order, for a message."""
    return first_few(sorted(names), count)


def _require_plain(part: str, name: str) -> None:
    """Refuse what is not the name of a file in its folder: the labels come from outside too."""
    if not part or part.startswith(".") or "/" in part or "\0" in part:
        raise UserError(f"{name}: '{part}' in the labels cannot be the name of a file; download the archives again")
