"""Image folders for pretraining, each sample augmented by a generator of its own."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder

from pretrain.console import UserError
from pretrain.data.card import check_against, read_data_card
from pretrain.data.seeds import derive_seed, seeded_torch
from pretrain.data.shards import INDEX, ShardedImages

SPLITS = ("train", "val")
Position = tuple[int, int] | tuple[int, int, int]  # epoch, index, and the repeat of repeated augmentation, from 0
ATTEMPTS = 10  # images in place of one that cannot be read
# What Pillow raises over files that are damaged in one way or another.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


class _VisibleFolder(ImageFolder):
    """torchvision's, that passes over what file managers and notebooks leave behind, such as .ipynb_checkpoints."""

    def find_classes(self, directory: str | Path) -> tuple[list[str], dict[str, int]]:
        classes = [name for name in super().find_classes(directory)[0] if not name.startswith(".")]
        return classes, {name: number for number, name in enumerate(classes)}

    @staticmethod
    def make_dataset(*arguments: Any, **options: Any) -> list[tuple[str, int]]:
        found = ImageFolder.make_dataset(*arguments, **options)
        return [(path, label) for path, label in found if not Path(path).name.startswith(".")]


class FolderImages:
    """The images of a folder with one folder a class.

    Raises:
        UserError: There is none, or a class without images.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        try:
            folder = _VisibleFolder(str(root))
        except FileNotFoundError as error:  # torchvision's sentence names the classes, and goes on about suffixes
            raise UserError(f"{root}: {str(error).partition('. ')[0]}; prepare the data set again") from error
        self.classes, self.samples = folder.classes, folder.samples

    def __len__(self) -> int:
        return len(self.samples)

    def label(self, index: int) -> int:
        """Return the number of an image's class."""
        return self.samples[index][1]

    def name(self, index: int) -> str:
        """Return an image's file."""
        return self.samples[index][0]

    source = name  # what `read_image` reads


class SeededImageFolder(Dataset[tuple[Tensor, int]]):
    """An image folder whose augmentation depends on (seed, epoch, index, repeat) alone.

    So a sample looks the same whatever the number of workers, and after a resume.

    Args:
        root: A folder with one folder of images a class, or with these in shards (`pretrain.data.shards`).
        transform: From a PIL image to a uint8 tensor (3, H, W); draws from torch's global generator.
        seed: Of the run.
        replace: Whether another image, which follows from (seed, epoch, index) too, takes the place of one that cannot
            be read.
    """

    def __init__(self, root: Path, transform: Callable[..., Tensor], seed: int = 0, replace: bool = False) -> None:
        self.folder = ShardedImages(root) if (Path(root) / INDEX).exists() else FolderImages(root)
        self.transform = transform
        self.seed = seed
        self.replace = replace
        self._unreadable = torch.zeros(len(self.folder), dtype=torch.uint8).share_memory_()  # workers write here too

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their labels."""
        return self.folder.classes

    @property
    def unreadable(self) -> Tensor:
        """(N,) uint8: 1 for every image that could not be read so far and was replaced, by this process's workers."""
        return self._unreadable

    def path(self, index: int) -> str:
        """Return the file of an image, or its shard and its name."""
        return self.folder.name(index)

    def __len__(self) -> int:
        return len(self.folder)

    def __getitem__(self, position: Position) -> tuple[Tensor, int]:
        """Return image and label of `position`, as `EpochSampler` gives it.

        Raises:
            UserError: The image cannot be read, and `replace` is not set or the others drawn cannot be read either.
        """
        epoch, index, *repeat = position
        for attempt in range(1 + ATTEMPTS):
            source, name = self.folder.source(index), self.folder.name(index)
            try:
                image = read_image(source, name)
            except UserError:
                if not self.replace:
                    raise
                self._unreadable[index] = 1
                index = derive_seed(self.seed, *position, 4, attempt) % len(self)
                continue
            with seeded_torch(derive_seed(*self._numbers(epoch, index, *repeat))):
                return self.transform(image), self.folder.label(index)
        raise UserError(f"{name}: cannot be read as an image, nor can {ATTEMPTS} others before it; check the data set")

    def _numbers(self, epoch: int, index: int, repeat: int = 0) -> tuple[int, ...]:
        return (self.seed, epoch, index, 3, repeat) if repeat else (self.seed, epoch, index)


def read_image(source: str | Path | io.BytesIO, name: str = "") -> Image.Image:
    """Return the RGB image in a file.

    Args:
        source: The file, or what it holds.
        name: Of what it holds, for the message.

    Raises:
        UserError: It cannot be read as an image.
    """
    name = name or str(source)
    try:
        if not isinstance(source, io.BytesIO):
            with open(source, "rb", buffering=0) as file:
                source = io.BytesIO(file.read())
        image: Image.Image = Image.open(source)
        image.load()
        return image if image.mode == "RGB" else image.convert("RGB")
    except UnidentifiedImageError as error:
        reason = "in no format that Pillow knows"
        raise UserError(f"{name}: cannot be read as an image ({reason}); replace or remove it") from error
    except UNREADABLE as error:
        raise UserError(f"{name}: cannot be read as an image ({error}); replace or remove it") from error


def read_augmented(path: str | Path, transform: Callable[..., Tensor], *numbers: int) -> Tensor:
    """Return what `transform` makes of the image at `path`, its draws decided by `numbers` alone; see `read_image`."""
    image = read_image(path)
    with seeded_torch(derive_seed(*numbers)):
        return transform(image)


def open_image_folder(
    root: str | Path, train: Callable[..., Tensor], val: Callable[..., Tensor], seed: int, prepare: str
) -> tuple[SeededImageFolder, SeededImageFolder]:
    """Open ROOT/train and ROOT/val, folders of images or what tools/shard_dataset.py made of them.

    Args:
        root: The data set's folder.
        train, val: Transforms, see `SeededImageFolder`.
        seed: Of the run.
        prepare: The command that makes the data set, for the message when it is missing.

    Raises:
        UserError: The tree is not there or empty (the message shows the expected tree, what was found, and `prepare`),
            or the two parts have different classes, or they are not what the data-set card says.
    """
    root = Path(root)
    if halves := [
        split for split in SPLITS if any((root / split).glob("*.tar")) and not (root / split / INDEX).exists()
    ]:
        raise UserError(f"{root / halves[0]}: shards without {INDEX}, unfinished; run tools/shard_dataset.py again")
    if missing := [
        split for split in SPLITS if not (root / split / INDEX).exists() and not any((root / split).glob("*/*.*"))
    ]:
        found = sorted(entry.name for entry in root.iterdir())[:8] if root.is_dir() else []
        raise UserError(
            f"{root}: no images under {' and '.join(f'{split}/<class>/' for split in missing)}\n"
            f"  expected: {root}/train/<class>/*.jpg\n"
            f"            {root}/val/<class>/*.jpg\n"
            f"  found:    {', '.join(found) if found else 'nothing' if root.is_dir() else 'no such folder'}\n"
            f"  prepare:  {prepare}"
        )
    parts = (
        SeededImageFolder(root / "train", train, seed, replace=True),
        SeededImageFolder(root / "val", val, seed),
    )
    if odd := sorted(set(parts[0].classes) ^ set(parts[1].classes)):
        raise UserError(f"{root}: classes that are not in both train/ and val/: {', '.join(odd[:5])}; prepare it again")
    if card := read_data_card(root):
        for split, part in zip(SPLITS, parts, strict=True):
            check_against(card, root, split, part.classes, len(part), prepare)
    return parts
