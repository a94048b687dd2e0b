"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), from the pickles of the "python version".

The images are written as PNG, which loses nothing, under their place in the original order.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage

from pretrain.archives.reading import Source, in_memory
from pretrain.archives.sources import Archive
from pretrain.console import UserError
from pretrain.data.prepare.arrange import DataSet, Image
from pretrain.data.prepare.subset import Census

SIDE = 32
_RECONSTRUCT = np.empty(0).__reduce__()[0]  # numpy.core.multiarray._reconstruct, wherever this numpy has it
_ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _Unpickler(pickle.Unpickler):
    """Reads numbers, text, lists, dictionaries and arrays, and calls nothing else that a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _ADMITTED[module, name]


def load_pickle(content: bytes, name: str) -> dict[str, Any]:
    """Return the dictionary in one of CIFAR's pickles, which Python 2 wrote.

    Raises:
        UserError: Damaged, something else, or a pickle that asks for anything but numpy arrays.
    """
    try:
        found = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise UserError(f"{name}: not a pickle of CIFAR's ({error}); download the archive again") from error
    if not isinstance(found, dict):
        raise UserError(f"{name}: not a pickle of CIFAR's (a {type(found).__name__}); download the archive again")
    return found


def _read(
    sources: Mapping[str, Source],
    census: Census,
    meta: str,
    names_key: str,
    labels_key: str,
    parts: dict[str, list[str]],
) -> Iterator[Image]:
    source = sources["images"]
    contents = source.read([meta, *(name for names in parts.values() for name in names)])
    names = load_pickle(contents[meta], meta).get(names_key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{meta}: no {names_key} in it; download the archive again")
    images: dict[tuple[str, str], dict[str, npt.NDArray[np.uint8]]] = {}  # (split, class) -> file name -> pixels
    for split, files in parts.items():
        batches = [_batch(contents[file], file, labels_key, len(names)) for file in files]
        pixels = np.concatenate([batch[0] for batch in batches])
        labels = [label for batch in batches for label in batch[1]]
        for number, label in enumerate(labels):
            images.setdefault((split, names[label]), {})[f"{number:05d}.png"] = pixels[number]
    chosen = {place: census.add(*place, files) for place, files in images.items()}
    census.check()
    for place, taken in chosen.items():
        for file in sorted(taken):
            yield Image(*place, file, in_memory(file, encode_png(images[place][file]), source.path))


def _batch(content: bytes, name: str, key: str, classes: int) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Return pixels (N, 3, 32, 32) and N labels."""
    batch = load_pickle(content, name)
    pixels, labels = batch.get("data"), batch.get(key)
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (3 * SIDE * SIDE,):
        raise UserError(f"{name}: no images of 3 x {SIDE} x {SIDE} bytes in it; download the archive again")
    if not isinstance(labels, list) or len(labels) != len(pixels) or not all(x in range(classes) for x in labels):
        raise UserError(f"{name}: its {key} do not fit its {len(pixels)} images; download the archive again")
    return pixels.reshape(-1, 3, SIDE, SIDE), labels


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return an image (3, H, W) uint8 as PNG."""
    encoded = io.BytesIO()
    PILImage.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(encoded, "PNG")
    return encoded.getvalue()


def _read_cifar10(sources: Mapping[str, Source], census: Census) -> Iterator[Image]:
    parts = {"train": [f"data_batch_{number}" for number in range(1, 6)], "val": ["test_batch"]}
    return _read(sources, census, "batches.meta", "label_names", "labels", parts)


def _read_cifar100(sources: Mapping[str, Source], census: Census) -> Iterator[Image]:
    return _read(sources, census, "meta", "fine_label_names", "fine_labels", {"train": ["train"], "val": ["test"]})


CIFAR10 = DataSet(
    key="cifar10",
    name="CIFAR-10",
    archives=(
        Archive(
            role="images",
            name="cifar-10-python.tar.gz",
            size=170_498_071,
            url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            checksum="md5:c58f30108f718f92721af3b95e74349a",
            tops=("cifar-10-batches-py", ""),
            proofs=("batches.meta",),
        ),
    ),
    classes=10,
    images={"train": 50_000, "val": 10_000},
    read=_read_cifar10,
    command="python tools/prepare_cifar.py cifar10",
    config="configs/pretrain/cifar10/r18_800ep.py",
)

CIFAR100 = DataSet(
    key="cifar100",
    name="CIFAR-100",
    archives=(
        Archive(
            role="images",
            name="cifar-100-python.tar.gz",
            size=169_001_437,
            url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
            checksum="md5:eb9058c3a382ffc7106e4002c42a8d85",
            tops=("cifar-100-python", ""),
            proofs=("meta",),
        ),
    ),
    classes=100,
    images={"train": 50_000, "val": 10_000},
    read=_read_cifar100,
    command="python tools/prepare_cifar.py cifar100",
    config="configs/pretrain/cifar100/r18_800ep.py",
)
