"""Tiny-ImageNet-200 (Stanford CS231n): 200 classes of ImageNet at 64 x 64 pixels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from pretrain.archives.reading import Source
from pretrain.archives.sources import Archive
from pretrain.console import UserError
from pretrain.data.prepare.arrange import DataSet, Image, from_table
from pretrain.data.prepare.labels import lines, pairs
from pretrain.data.prepare.subset import Census, some

WNIDS, VAL_LABELS = "wnids.txt", "val/val_annotations.txt"
TRAIN_IMAGE = re.compile(r"train/(n\d+)/images/[^/]+\.JPEG")


def _read(sources: Mapping[str, Source], census: Census) -> Iterator[Image]:
    source = sources["images"]
    contents = source.read([WNIDS, VAL_LABELS])
    wnids = set(lines(contents, WNIDS))
    names = (source.below(member.name) for member in source.members())
    found = ((name, TRAIN_IMAGE.fullmatch(name)) for name in names)
    table = {name: ("train", match[1]) for name, match in found if match}
    # Each line: image, wnid, and the corners of its box.
    val = {image: rest.split()[0] for image, rest in pairs(contents, VAL_LABELS).items()}
    table |= {f"val/images/{image}": ("val", wnid) for image, wnid in val.items()}
    if odd := {wnid for _, wnid in table.values()} - wnids:
        raise UserError(f"{source.path}: classes that {WNIDS} does not have: {some(odd)}; download it again")
    return from_table(source, table, census, VAL_LABELS)


TINY = DataSet(
    key="tiny",
    name="Tiny-ImageNet",
    archives=(
        Archive(
            role="images",
            name="tiny-imagenet-200.zip",
            size=248_100_043,
            url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            checksum="md5:90528d7ca1a48142e341f4ef8d21d0de",
            tops=("tiny-imagenet-200", ""),
            proofs=(WNIDS,),
        ),
    ),
    classes=200,
    images={"train": 100_000, "val": 10_000},
    read=_read,
    command="python tools/prepare_tiny.py",
    config="configs/pretrain/tiny/r18_400ep.py",
)
