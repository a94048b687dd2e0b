"""CUB-200-2011 (Wah et al., 2011): birds, with the official split; its test images are the validation images here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pretrain.archives.reading import Source
from pretrain.archives.sources import Archive
from pretrain.console import UserError
from pretrain.data.prepare.arrange import DataSet, Image, from_table
from pretrain.data.prepare.labels import pairs
from pretrain.data.prepare.subset import Census

IMAGES, LABELS, SPLIT, CLASSES = "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt"
SPLITS = {"1": "train", "0": "val"}


def _read(sources: Mapping[str, Source], census: Census) -> Iterator[Image]:
    source = sources["images"]
    contents = source.read([IMAGES, LABELS, SPLIT, CLASSES])
    images, labels, split, classes = (pairs(contents, name) for name in (IMAGES, LABELS, SPLIT, CLASSES))
    table = {}
    for number, name in images.items():
        label, folder = classes.get(labels.get(number, "")), name.partition("/")[0]
        if label != folder:
            raise UserError(
                f"{source.path}: image {number} lies in '{folder}', and {LABELS} says '{label or 'nothing'}'; "
                "download it again"
            )
        if split.get(number) not in SPLITS:
            raise UserError(f"{source.path}: {SPLIT} does not say 0 or 1 of image {number}; download it again")
        table[f"images/{name}"] = (SPLITS[split[number]], folder)
    return from_table(source, table, census, IMAGES)


CUB = DataSet(
    key="cub200",
    name="CUB-200-2011",
    archives=(
        Archive(
            role="images",
            name="CUB_200_2011.tgz",
            size=1_150_585_339,
            url="https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
            checksum="md5:97eceeb196236b17998738112f37df78",
            tops=("CUB_200_2011", ""),
            proofs=(IMAGES,),
        ),
    ),
    classes=200,
    images={"train": 5_994, "val": 5_794},
    read=_read,
    command="python tools/prepare_cub.py",
    config="configs/pretrain/cub200/r18_200ep.py",
)
