"""Places205 (Zhou et al., NIPS 2014): scenes, labelled by train_places205.csv and val_places205.csv."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pretrain.archives.reading import Source, basename
from pretrain.archives.sources import Archive
from pretrain.console import UserError
from pretrain.data.prepare.arrange import DataSet, Image, from_table
from pretrain.data.prepare.labels import pairs
from pretrain.data.prepare.subset import Census

FILES = {"train": "train_places205.csv", "val": "val_places205.csv"}
LOGIN = "needs a registration at http://places.csail.mit.edu/ and its terms accepted"
_LETTER = re.compile(r"(?:^|/)([a-z]/.+)")


def scene_path(name: str) -> str:
    """Return the part of a path that the label files have, which begins with a letter: "a/abbey/x.jpg".

    The archives of original and of resized images have different folders above it.
    """
    found = _LETTER.search(name)
    return found[1] if found else name


def class_name(path: str) -> str:
    """Return the class of an image: "a/apartment_building/outdoor/x.jpg" -> "apartment_building-outdoor"."""
    return "-".join(path.split("/")[1:-1])


def _read(sources: Mapping[str, Source], census: Census) -> Iterator[Image]:
    images = sources["images"]
    contents = sources["labels"].read(list(FILES.values()), basename)
    table: dict[str, tuple[str, str]] = {}
    numbers: dict[str, str] = {}  # class -> its label
    for split, file in FILES.items():
        places: dict[str, tuple[str, str]] = {}
        for path, number in pairs(contents, file, last=True).items():
            label = class_name(path)
            if numbers.setdefault(label, number) != number:
                raise UserError(f"{file}: '{path}' has the label {number}, and others of '{label}' {numbers[label]}")
            if path in table:
                raise UserError(f"{file}: '{path}' is in both splits; download it again")
            table[path] = places.setdefault(label, (split, label))  # one pair for all of a class, for the memory's sake
    if len(set(numbers.values())) < len(numbers):
        raise UserError(f"{sources['labels'].path}: two classes have the same label; download it again")
    return from_table(images, table, census, " and ".join(FILES.values()), scene_path)


PLACES = DataSet(
    key="places205",
    name="Places205",
    archives=(
        Archive(
            role="images",
            name="imagesPlaces205_resize.tar.gz",
            size=140_000_000_000,
            url="http://places.csail.mit.edu/downloadData.html",
            checksum=None,
            login=LOGIN,
            also=("imagesPlaces205*.tar*",),
            tops=("data/vision/torralba/deeplearning/images256", "images256", ""),
            proofs=("[a-z]/*",),
        ),
        Archive(
            role="labels",
            name="trainvalsplit_places205.tar.gz",
            size=None,
            url="http://places.csail.mit.edu/downloadData.html",
            checksum=None,
            login=LOGIN,
            also=("trainvalsplit_places205*", "trainval_places205*"),
            tops=("trainvalsplit_places205", ""),
            proofs=(FILES["train"],),
        ),
    ),
    classes=205,
    images={"train": 2_448_873, "val": 20_500},
    read=_read,
    command="python tools/prepare_places.py",
    config="configs/pretrain/places205/r50_100ep.py",
)
