"""iNaturalist 2017 and 2018 (Van Horn et al., CVPR 2018), labelled by the competitions' JSON files.

Class folders are the category numbers with leading zeros, "0042": the order of the labels is that of the categories.
Counts are those of the competitions' own pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial

from pretrain.archives.reading import Source, basename
from pretrain.archives.sources import Archive
from pretrain.console import UserError
from pretrain.data.prepare.arrange import DataSet, Image, from_table
from pretrain.data.prepare.subset import Census

BUCKET = "https://ml-inat-competition-datasets.s3.amazonaws.com"
PROOFS = ("Aves", "Plantae")  # two of the folders that images lie in


def _read(year: int, sources: Mapping[str, Source], census: Census) -> Iterator[Image]:
    images = sources["images"]
    table: dict[str, tuple[str, str]] = {}
    files = {"train": f"train{year}.json", "val": f"val{year}.json"}
    for split, file in files.items():
        labels = sources.get("labels") or sources[f"{split} labels"]
        for name, category in categories(labels.read([file], basename)[file], file).items():
            if (below := images.below(name)) in table:
                raise UserError(f"{file}: '{name}' stands there twice, or in both splits; download it again")
            table[below] = (split, f"{category:04d}")
    return from_table(images, table, census, " and ".join(files.values()))


def categories(content: bytes, file: str) -> dict[str, int]:
    """Return {image's file name: number of its category} of a competition's JSON file.

    Raises:
        UserError: Not such a file, or an image has no annotation or several, or an annotation no image.
    """
    try:
        found = json.loads(content)
        names = {image["id"]: str(image["file_name"]) for image in found["images"]}
        labels = {entry["image_id"]: int(entry["category_id"]) for entry in found["annotations"]}
        several = len(found["annotations"]) - len(labels)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: not a table of images and annotations ({type(error).__name__}: {error}); download it again"
        ) from error
    if several or names.keys() != labels.keys():
        raise UserError(
            f"{file}: {len(names.keys() - labels.keys())} images without an annotation, {several} with several, and "
            f"{len(labels.keys() - names.keys())} annotations without an image; download it again"
        )
    return {names[number]: label for number, label in labels.items()}


INAT2017 = DataSet(
    key="inat2017",
    name="iNaturalist 2017",
    archives=(
        Archive(
            role="images",
            name="train_val_images.tar.gz",
            size=198_765_436_676,
            url=f"{BUCKET}/2017/train_val_images.tar.gz",
            checksum="md5:7c784ea5e424efaec655bd392f87301f",
            tops=("train_val_images", ""),
            proofs=PROOFS,
        ),
        Archive(
            role="labels",
            name="train_val2017.zip",
            size=26_836_398,
            url=f"{BUCKET}/2017/train_val2017.zip",
            checksum="md5:444c835f6459867ad69fcb36478786e7",
            tops=("train_val2017", ""),
            proofs=("train2017.json",),
        ),
    ),
    classes=5089,
    images={"train": 579_184, "val": 95_986},
    read=partial(_read, 2017),
    command="python tools/prepare_inat.py inat2017",
    config="configs/pretrain/inat2017/r50_100ep.py",
)

INAT2018 = DataSet(
    key="inat2018",
    name="iNaturalist 2018",
    archives=(
        Archive(
            role="images",
            name="train_val2018.tar.gz",
            size=120_000_000_000,
            url=f"{BUCKET}/2018/train_val2018.tar.gz",
            checksum="md5:b1c6952ce38f31868cc50ea72d066cc3",
            tops=("train_val2018", ""),
            proofs=PROOFS,
        ),
        Archive(
            role="train labels",
            name="train2018.json.tar.gz",
            size=26_000_000,
            url=f"{BUCKET}/2018/train2018.json.tar.gz",
            checksum="md5:bfa29d89d629cbf04d826a720c0a68b0",
            proofs=("train2018.json",),
        ),
        Archive(
            role="val labels",
            name="val2018.json.tar.gz",
            size=26_000_000,
            url=f"{BUCKET}/2018/val2018.json.tar.gz",
            checksum="md5:f2ed8bfe3e9901cdefceb4e53cd3775d",
            proofs=("val2018.json",),
        ),
    ),
    classes=8142,
    images={"train": 437_513, "val": 24_426},
    read=partial(_read, 2018),
    command="python tools/prepare_inat.py inat2018",
    config="configs/pretrain/inat2018/r50_100ep.py",
)
