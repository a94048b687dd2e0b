"""ImageNet-1k (ILSVRC 2012): a tar of a tar for each class, the validation images, and the labels in the devkit."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping

import numpy as np
from scipy.io import loadmat

from pretrain.archives.reading import Member, Source, basename
from pretrain.archives.sources import Archive
from pretrain.console import UserError
from pretrain.data.prepare.arrange import DataSet, Image, from_table
from pretrain.data.prepare.labels import lines
from pretrain.data.prepare.subset import Census

META, TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"
WNID = "n[0-9]*"
PAGE = "https://image-net.org/challenges/LSVRC/2012/2012-downloads.php"
LOGIN = "needs an account at image-net.org and its terms of access accepted"


def _read(sources: Mapping[str, Source], census: Census) -> Iterator[Image]:
    train, val = sources["train"], sources["val"]
    yield from _by_class("train", train.classes() if train.unpacked else train.tars(), census)
    if val.unpacked and any(val.path.glob(WNID)):
        yield from _by_class("val", val.classes(), census)
    else:
        table = {name: ("val", wnid) for name, wnid in val_labels(sources["devkit"]).items()}
        yield from from_table(val, table, census, TRUTH, complete=False)


def _by_class(split: str, classes: Iterator[tuple[str, list[Member]]], census: Census) -> Iterator[Image]:
    """A class is counted when it comes: to list a tar of 138 GB beforehand may take as long as to read it."""
    for wnid, members in classes:
        images = {basename(member.name): member for member in members}
        chosen = census.add(split, wnid, [basename(member.name) for member in members])
        yield from (Image(split, wnid, name, member) for name, member in images.items() if name in chosen)


def val_labels(devkit: Source) -> dict[str, str]:
    """Return {image name: wnid} of the validation images.

    Raises:
        UserError: The devkit's tables are damaged, or a label is no number of theirs.
    """
    contents = devkit.read([META, TRUTH])
    try:
        synsets = np.atleast_1d(loadmat(io.BytesIO(contents[META]), squeeze_me=True)["synsets"])
        wnids = {str(int(synset["ILSVRC2012_ID"])): str(synset["WNID"]) for synset in synsets}
    except Exception as error:  # a damaged MAT file may raise anything
        raise UserError(
            f"{devkit.path}: {META} is not the devkit's table of classes ({error}); get it again"
        ) from error
    labels = lines(contents, TRUTH)
    if odd := [label for label in labels if label not in wnids]:
        raise UserError(f"{devkit.path}: {TRUTH} has the class '{odd[0]}', which {META} does not; get it again")
    return {f"ILSVRC2012_val_{number:08d}.JPEG": wnids[label] for number, label in enumerate(labels, start=1)}


IMAGENET = DataSet(
    key="imagenet",
    name="ImageNet-1k",
    archives=(
        Archive(
            role="train",
            name="ILSVRC2012_img_train.tar",
            size=147_897_477_120,
            url=PAGE,
            checksum="md5:1d675b47d978889d74fa0da5fadfb00e",
            login=LOGIN,
            tops=("train",),
            proofs=(WNID,),
        ),
        Archive(
            role="val",
            name="ILSVRC2012_img_val.tar",
            size=6_744_924_160,
            url=PAGE,
            checksum="md5:29b22e2961454d5413ddabcf34fc5622",
            login=LOGIN,
            tops=("val",),
            proofs=(WNID, "ILSVRC2012_val_*"),
        ),
        Archive(
            role="devkit",
            name="ILSVRC2012_devkit_t12.tar.gz",
            size=2_600_000,
            url=PAGE,
            checksum="md5:fa75699e90414af021442c21a62c3abf",
            login=LOGIN,
            tops=("ILSVRC2012_devkit_t12", ""),
            proofs=(META, f"val/{WNID}"),  # validation images in folders of their classes need no labels
        ),
    ),
    classes=1000,
    images={"train": 1_281_167, "val": 50_000},
    read=_read,
    command="python tools/prepare_imagenet.py",
    config="configs/pretrain/imagenet/r50_100ep.py",
)
