"""The paper's data sets in miniature: archives of the real layouts, three classes each, whose pixels tell the class.

Every image is one colour: red says the class, green the split, blue the number of the image within both. What the
archives hold besides (other files, other folders) is what the real ones hold, too.
"""

import hashlib
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from pretrain.data.prepare.aircraft import AIRCRAFT
from pretrain.data.prepare.arrange import DataSet
from pretrain.data.prepare.cifar import CIFAR10, CIFAR100
from pretrain.data.prepare.cub import CUB
from pretrain.data.prepare.imagenet import IMAGENET
from pretrain.data.prepare.inat import INAT2017, INAT2018
from pretrain.data.prepare.places import PLACES
from pretrain.data.prepare.tiny import TINY

CLASSES, TRAIN, VAL = 3, 4, 2  # in a class
EACH = {"train": TRAIN, "val": VAL}
Colour = tuple[int, int, int]


@dataclass
class Built:
    """A data set in miniature: its description, where its archives lie, and what has to come out."""

    data_set: DataSet
    folder: Path
    truth: dict[tuple[str, str, str], Colour]  # (split, class folder, file name) -> colour


def colour(label: int, split: str, number: int) -> Colour:
    return 60 * label + 20, {"train": 10, "val": 200}[split], number


def picture(colours: Colour, side: int = 4) -> bytes:
    """Return a PNG, also where the real file is a JPEG: its bytes have to arrive as they are."""
    encoded = io.BytesIO()
    Image.new("RGB", (side, side), colours).save(encoded, "PNG")
    return encoded.getvalue()


def write_tar(path: Path, files: dict[str, bytes], folders: tuple[str, ...] = ()) -> None:
    with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            archive.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def lowered(data_set: DataSet, folder: Path, truth: dict[tuple[str, str, str], Colour]) -> Built:
    """Return the data set with the counts and checksums of the archives in `folder`."""
    archives = tuple(
        replace(archive, checksum="md5:" + hashlib.md5((folder / archive.name).read_bytes()).hexdigest())
        for archive in data_set.archives
    )
    images = {split: CLASSES * each for split, each in EACH.items()}
    return Built(replace(data_set, archives=archives, classes=CLASSES, images=images), folder, truth)


def each_image() -> list[tuple[int, str, int]]:
    """Return (class, split, number) of all images, the classes in turn as in the real lists."""
    return [
        (label, split, number) for split, each in EACH.items() for number in range(each) for label in range(CLASSES)
    ]


def python2_pickle(value: object) -> bytes:
    """Return a pickle as Python 2 and its numpy wrote those of CIFAR: protocol 2, byte strings, old module names."""
    return b"\x80\x02" + _pickled(value) + b"."


def _pickled(value: object) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_pickled(key) + _pickled(item) for key, item in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_pickled, value)) + b"e"
    if isinstance(value, str):
        return b"U" + bytes([len(value)]) + value.encode()
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    assert isinstance(value, np.ndarray)
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    shape = b"".join(map(_pickled, value.shape)) + b"\x86"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    pixels = b"T" + struct.pack("<i", value.size) + value.tobytes()
    return made + b"(K\x01" + shape + dtype + b"\x89" + pixels + b"tb"


def _cifar(folder: Path, data_set: DataSet, top: str, meta: str, names: list[str], keys: tuple[str, str]) -> Built:
    """Write train and test pickles; keys are those of the class names and of the labels."""
    files, truth = {f"{top}/{meta}": python2_pickle({keys[0]: names}), f"{top}/readme.html": b"<html>"}, {}
    parts = {"train": ["train"], "val": ["test"]}
    if data_set.key == "cifar10":
        parts = {"train": [f"data_batch_{number}" for number in range(1, 6)], "val": ["test_batch"]}
    for split, batches in parts.items():
        images = [(label, number) for label, part, number in each_image() if part == split]
        colours = [colour(label, split, number) for label, number in images]
        pixels = np.stack([np.repeat(np.array(each, dtype=np.uint8), 32 * 32) for each in colours])
        for index, (label, _) in enumerate(images):
            truth[split, names[label], f"{index:05d}.png"] = colours[index]
        for batch, indices in zip(batches, np.array_split(np.arange(len(images)), len(batches))):
            labels = [images[index][0] for index in indices]
            files[f"{top}/{batch}"] = python2_pickle({"data": pixels[indices], keys[1]: labels})
    write_tar(folder / data_set.archives[0].name, files)
    return lowered(data_set, folder, truth)


def cifar10(folder: Path) -> Built:
    names = ["airplane", "bird", "cat"]
    return _cifar(folder, CIFAR10, "cifar-10-batches-py", "batches.meta", names, ("label_names", "labels"))


def cifar100(folder: Path) -> Built:
    names = ["apple", "bear", "can"]
    return _cifar(folder, CIFAR100, "cifar-100-python", "meta", names, ("fine_label_names", "fine_labels"))


WNIDS = ["n01440764", "n02119789", "n15075141"]


def tiny(folder: Path) -> Built:
    top, truth, lines = "tiny-imagenet-200", {}, []
    files = {f"{top}/wnids.txt": "\n".join(reversed(WNIDS)).encode(), f"{top}/test/images/test_0.JPEG": b"x"}
    for label, split, number in each_image():
        wnid, content = WNIDS[label], picture(colour(label, split, number))
        if split == "train":
            name = f"{wnid}_{number}.JPEG"
            files[f"{top}/train/{wnid}/images/{name}"] = content
            files[f"{top}/train/{wnid}/{wnid}_boxes.txt"] = b"boxes"
        else:
            name = f"val_{3 * number + label}.JPEG"
            files[f"{top}/val/images/{name}"] = content
            lines.append(f"{name}\t{wnid}\t0\t0\t4\t4")
        truth[split, wnid, name] = colour(label, split, number)
    files[f"{top}/val/val_annotations.txt"] = "\n".join(lines).encode()
    write_zip(folder / "tiny-imagenet-200.zip", files)
    return lowered(TINY, folder, truth)


def imagenet(folder: Path) -> Built:
    """Write the three files; the devkit's numbers are in another order than the wnids, as the real ones are."""
    numbers = {WNIDS[0]: 3, WNIDS[1]: 1, WNIDS[2]: 2}
    truth, classes, val, labels = {}, {wnid: {} for wnid in WNIDS}, {}, []
    for label, split, number in each_image():
        wnid, content = WNIDS[label], picture(colour(label, split, number))
        name = f"{wnid}_{17 * number}.JPEG" if split == "train" else f"ILSVRC2012_val_{len(val) + 1:08d}.JPEG"
        if split == "train":
            classes[wnid][name] = content
        else:
            val[name] = content
            labels.append(numbers[wnid])
        truth[split, wnid, name] = colour(label, split, number)
    for wnid, files in classes.items():
        write_tar(folder / f"{wnid}.tar", files)
    write_tar(folder / "ILSVRC2012_img_train.tar", {f"{w}.tar": (folder / f"{w}.tar").read_bytes() for w in WNIDS})
    write_tar(folder / "ILSVRC2012_img_val.tar", dict(reversed(val.items())))
    rows = [(float(numbers[wnid]), wnid, "words") for wnid in WNIDS] + [(1001.0, "n00001740", "entity")]
    synsets = np.array(rows, dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object)])
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets})
    top = "ILSVRC2012_devkit_t12"
    truth_file = "".join(f"{number}\n" for number in labels).encode()
    devkit = {f"{top}/data/meta.mat": meta.getvalue(), f"{top}/readme.txt": b"read me"}
    devkit[f"{top}/data/ILSVRC2012_validation_ground_truth.txt"] = truth_file
    write_tar(folder / "ILSVRC2012_devkit_t12.tar.gz", devkit)
    for wnid in WNIDS:
        (folder / f"{wnid}.tar").unlink()
    return lowered(IMAGENET, folder, truth)


def cub(folder: Path, changed: Callable[[dict[str, bytes]], None] = lambda files: None) -> Built:
    """Write the archive, after `changed` had its way with the files; the lists come after the images, as there."""
    top, names = "CUB_200_2011", ["001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross"]
    files, truth = {"attributes.txt": b"1 colour"}, {}
    columns = ("images", "image_class_labels", "train_test_split", "bounding_boxes", "classes")
    lists: dict[str, list[str]] = {name: [] for name in columns}
    lists["classes"] = [f"{number} {name}" for number, name in enumerate(names, start=1)]
    for image, (label, split, number) in enumerate(each_image(), start=1):
        name = f"{names[label][4:]}_{image:04d}.jpg"
        files[f"{top}/images/{names[label]}/{name}"] = picture(colour(label, split, number))
        lists["images"].append(f"{image} {names[label]}/{name}")
        lists["image_class_labels"].append(f"{image} {label + 1}")
        lists["train_test_split"].append(f"{image} {int(split == 'train')}")
        lists["bounding_boxes"].append(f"{image} {label}.0 1.0 2.0 {number % 3}.5")
        truth[split, names[label], name] = colour(label, split, number)
    files |= {f"{top}/{name}.txt": "\n".join(lines).encode() for name, lines in lists.items()}
    changed(files)
    write_tar(folder / "CUB_200_2011.tgz", files, folders=(top, f"{top}/images"))
    return lowered(CUB, folder, truth)


def aircraft(folder: Path) -> Built:
    top, variants = "fgvc-aircraft-2013b/data", ["707-320", "F-16A/B", "Falcon 2000"]
    parts: dict[str, list[str]] = {"train": [], "val": []}
    files, truth = {}, {}
    for image, (label, split, number) in enumerate(each_image(), start=34_309):
        parts[split].append(f"{image:07d} {variants[label]}")
        files[f"{top}/images/{image:07d}.jpg"] = picture(colour(label, split, number))
        truth[split, variants[label].replace("/", "_"), f"{image:07d}.jpg"] = colour(label, split, number)
    files[f"{top}/variants.txt"] = "\n".join(variants).encode()
    files[f"{top}/images_variant_trainval.txt"] = "\n".join(parts["train"]).encode()
    files[f"{top}/images_variant_test.txt"] = "\n".join(parts["val"]).encode()
    files[f"{top}/images_family_test.txt"] = b"0034309 Boeing 707"
    write_tar(folder / "fgvc-aircraft-2013b.tar.gz", files)
    return lowered(AIRCRAFT, folder, truth)


def _inat(folder: Path, data_set: DataSet, top: str, folders: list[str]) -> tuple[Built, dict[str, bytes]]:
    numbers = [7, 42, 4110]
    files, truth = {}, {}
    tables: dict[str, dict[str, list[dict]]] = {split: {"images": [], "annotations": []} for split in EACH}
    for image, (label, split, number) in enumerate(each_image()):
        name = f"{hashlib.md5(bytes([image])).hexdigest()}.jpg"
        path = f"{top}/{folders[label]}/{name}"
        files[path] = picture(colour(label, split, number))
        tables[split]["images"].append({"id": 1000 + image, "file_name": path, "width": 4, "height": 4})
        tables[split]["annotations"].insert(0, {"id": image, "image_id": 1000 + image, "category_id": numbers[label]})
        truth[split, f"{numbers[label]:04d}", name] = colour(label, split, number)
    write_tar(folder / data_set.archives[0].name, files)
    year = data_set.key[-4:]
    labels = {f"{split}{year}.json": json.dumps(table).encode() for split, table in tables.items()}
    return Built(data_set, folder, truth), labels


def inat2017(folder: Path) -> Built:
    folders = ["Aves/Anas rubripes", "Plantae/Acer rubrum", "Fungi/Amanita muscaria"]
    built, labels = _inat(folder, INAT2017, "train_val_images", folders)
    write_zip(folder / "train_val2017.zip", labels)
    return lowered(INAT2017, folder, built.truth)


def inat2018(folder: Path) -> Built:
    built, labels = _inat(folder, INAT2018, "train_val2018", ["Plantae/7", "Aves/42", "Fungi/4110"])
    for name, content in labels.items():
        write_tar(folder / f"{name}.tar.gz", {name: content})
    return lowered(INAT2018, folder, built.truth)


def places(folder: Path, top: str = "data/vision/torralba/deeplearning/images256") -> Built:
    scenes = ["a/abbey", "a/apartment_building/outdoor", "b/basilica"]
    labels = ["abbey", "apartment_building-outdoor", "basilica"]
    files, truth, lines = {}, {}, {split: [] for split in EACH}
    for image, (label, split, number) in enumerate(each_image()):
        name = f"gsun_{image:032x}.jpg"
        files[f"{top}/{scenes[label]}/{name}"] = picture(colour(label, split, number))
        lines[split].append(f"{scenes[label]}/{name} {label}")
        truth[split, labels[label], name] = colour(label, split, number)
    write_tar(folder / "imagesPlaces205_resize.tar.gz", files)
    tables = {f"{split}_places205.csv": "\n".join(table).encode() for split, table in lines.items()}
    write_tar(
        folder / "trainvalsplit_places205.tar.gz",
        {f"trainvalsplit_places205/{name}": content for name, content in tables.items()},
    )
    return lowered(PLACES, folder, truth)


LAYOUTS: dict[str, Callable[[Path], Built]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "tiny": tiny,
    "imagenet": imagenet,
    "cub200": cub,
    "aircraft": aircraft,
    "inat2017": inat2017,
    "inat2018": inat2018,
    "places205": places,
}
REAL = {
    data_set.key: data_set
    for data_set in (CIFAR10, CIFAR100, TINY, IMAGENET, CUB, AIRCRAFT, INAT2017, INAT2018, PLACES)
}
