"""Handwritten digits as folders of images, few of them labelled: scikit-learn's copy, which comes with the library.

1,797 digits of 8x8 pixels by 43 people, the test part of the UCI set "Optical Recognition of Handwritten Digits" (E.
Alpaydin and C. Kaynak, 1998; CC BY 4.0). A value is the number of inked pixels, 0 to 16, of a 4x4 block of a scan.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from pretrain.console import UserError, first_few
from pretrain.data.card import DataCard, read_data_card, write_data_card
from pretrain.data.prepare.subset import SPLITS, choose
from pretrain.files import require_writable, write_text

NAME = "digits"
MOST_INK = 16
BEGUN = "digits.begun"  # in a folder that this module is writing: what lies under train/ and val/ is its own
SOURCE = {"sklearn.datasets.load_digits": "not checked, installed with scikit-learn"}


def write_digits(root: Path, labelled: int = 10, seed: int = 0) -> DataCard:
    """Write ROOT/train/<digit>/ with `labelled` images each, and all others as ROOT/val/<digit>/.

    Args:
        root: A folder that is empty, new, or holds the same set already.
        labelled: Training images of each digit.
        seed: Decides which ones.

    Returns:
        The card, also written as ROOT/dataset.json, last of all.

    Raises:
        UserError: The folder holds something else, or images are missing; or there are not so many of a digit.
    """
    values, labels = load_digits(return_X_y=True)
    fewest = int(np.bincount(labels).min())
    if not 1 <= labelled < fewest:
        raise UserError(
            f"--labelled is {labelled}; of every digit there are at least {fewest}, so 1 to {fewest - 1} do"
        )
    names = [str(digit) for digit in range(10)]
    counts = {"train": 10 * labelled, "val": len(labels) - 10 * labelled}
    card = DataCard(NAME, names, counts, fraction=1.0, seed=seed, source=SOURCE)
    if (there := read_data_card(root) if root.is_dir() else None) is not None:
        if there != card:
            images = ", ".join(f"{split} {number}" for split, number in there.images.items())
            raise UserError(
                f"{root}: holds another set ({there.name}: {images}; seed {there.seed}); delete it, or name another "
                "folder"
            )
        found = {split: sum(1 for _ in (root / split).glob("*/*.png")) for split in SPLITS}
        if found != counts:
            lacking = next(split for split in SPLITS if found[split] != counts[split])
            raise UserError(
                f"{root / lacking}: {found[lacking]} images, and its card says {counts[lacking]}; delete {root} and "
                "type the same command again"
            )
        return card
    if root.is_dir() and not (root / BEGUN).is_file() and (odd := sorted(entry.name for entry in root.iterdir())):
        raise UserError(f"{root}: holds other things ({first_few(odd)}); give a new or an empty folder")
    require_writable(root)
    write_text(root / BEGUN, "what lies here is being written by tools/prepare_digits.py\n")
    for split in SPLITS:
        shutil.rmtree(root / split, ignore_errors=True)  # of a time before that was cut short
    pictures = np.rint(values.reshape(-1, 8, 8) * (255 / MOST_INK)).astype(np.uint8)
    for digit in names:
        numbers = [f"{index:04d}" for index in np.flatnonzero(labels == int(digit))]
        chosen = choose(numbers, labelled, seed, f"train/{digit}")
        for split in SPLITS:
            folder = root / split / digit
            folder.mkdir(parents=True)
            for number in numbers:
                if (number in chosen) == (split == "train"):
                    Image.fromarray(pictures[int(number)]).save(folder / f"{number}.png")
    write_data_card(root, card)
    (root / BEGUN).unlink()
    return card
