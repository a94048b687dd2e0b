"""FGVC-Aircraft (Maji et al., 2013): 100 variants; trainval is the training set here, and test the validation set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pretrain.archives.reading import Source
from pretrain.archives.sources import Archive
from pretrain.console import UserError
from pretrain.data.prepare.arrange import DataSet, Image, from_table
from pretrain.data.prepare.labels import lines, pairs
from pretrain.data.prepare.subset import Census

VARIANTS = "data/variants.txt"
PARTS = {"train": "data/images_variant_trainval.txt", "val": "data/images_variant_test.txt"}


def _read(sources: Mapping[str, Source], census: Census) -> Iterator[Image]:
    source = sources["images"]
    contents = source.read([VARIANTS, *PARTS.values()])
    variants = set(lines(contents, VARIANTS))
    table: dict[str, tuple[str, str]] = {}
    for split, file in PARTS.items():
        for image, variant in pairs(contents, file).items():
            if variant not in variants:
                raise UserError(f"{source.path}: {file} has the variant '{variant}', which {VARIANTS} does not have")
            if (name := f"data/images/{image}.jpg") in table:
                raise UserError(f"{source.path}: image {image} is in both parts; download it again")
            table[name] = (split, variant.replace("/", "_"))  # "F-16A/B" cannot be a folder
    return from_table(source, table, census, " and ".join(PARTS.values()))


AIRCRAFT = DataSet(
    key="aircraft",
    name="FGVC-Aircraft",
    archives=(
        Archive(
            role="images",
            name="fgvc-aircraft-2013b.tar.gz",
            size=2_753_340_328,
            url="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            checksum="md5:d4acdd33327262359767eeaa97a4f732",
            tops=("fgvc-aircraft-2013b", ""),
            proofs=(VARIANTS,),
        ),
    ),
    classes=100,
    images={"train": 6_667, "val": 3_333},
    read=_read,
    command="python tools/prepare_aircraft.py",
    config="configs/pretrain/aircraft/r18_200ep.py",
)
