"""What is evaluated: an exported network and the validation images that belong to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pretrain.backbones import BackboneCard, load_backbone
from pretrain.console import UserError, first_few
from pretrain.data.card import check_against, read_data_card
from pretrain.data.datasets import SeededImageFolder
from pretrain.data.loaders import EpochSampler, batches_of, build_loader, far_pairs, stop
from pretrain.data.soft_labels import require_same_classes
from pretrain.data.transforms import Normalise, TransformSettings, eval_transform
from pretrain.files import read_json

BATCH, LARGEST_BATCH = 64, 256  # of a card that names none; and where training's is larger than one device may hold


@dataclass(frozen=True)
class Subject:
    """A checkpoint on its device.

    Attributes:
        weights: Its .safetensors file.
        run: The folder of the run that exported it, where it lies in one.
        own_out: Where its evaluation goes if no other folder is named.
        model: The network, in eval mode, on `device`.
        card: Its card.
        device: Where everything is computed.
        transform: How its validation images are cropped.
        normalise: uint8 images (N, 3, H, W) to what the network takes.
    """

    weights: Path
    run: Path | None
    own_out: Path
    model: nn.Module
    card: BackboneCard
    device: torch.device
    transform: TransformSettings
    normalise: Normalise

    @property
    def data(self) -> dict[str, Any]:
        """The settings of its training's images; empty where the card has none."""
        found: dict[str, Any] = self.card.training.get("data", {})
        return found


def open_checkpoint(checkpoint: Path, device: str = "auto") -> Subject:
    """Load an exported backbone, or the result of a run.

    Args:
        checkpoint: A .safetensors file with its card beside it, with or without its suffix; or the folder of a run,
            whose result.json says which of its networks is the result.
        device: "auto" is the GPU where there is one.

    Raises:
        UserError: It is neither, or there is no such device.
    """
    found = _device(device)
    run: Path | None = checkpoint
    if checkpoint.is_dir():
        if not (checkpoint / "result.json").is_file():
            raise UserError(f"{checkpoint}: no result.json, so no finished run{_near(checkpoint)}")
        weights = checkpoint / "export" / _result_of(checkpoint / "result.json")
        out = checkpoint / "evaluation"
    else:
        weights = checkpoint.with_suffix("") if checkpoint.suffix in (".safetensors", ".json") else checkpoint
        run = weights.parent.parent if (weights.parent.parent / "result.json").is_file() else None
        out = weights.parent / "evaluation" / weights.name  # a run's networks do not overwrite each other's
        if not weights.with_suffix(".json").is_file():
            raise UserError(
                f"{checkpoint}: neither the folder of a run nor an exported backbone, NAME.safetensors with its card "
                "NAME.json beside it; a run leaves both under export"
            )
    model, card = load_backbone(weights)
    if broken := [name for name, tensor in model.state_dict().items() if not torch.isfinite(tensor).all()]:
        raise UserError(
            f"{weights}.safetensors: {first_few(broken)} hold values that are not finite, so that every figure would "
            "be of chance; the training diverged: see its log"
        )
    transform = card.training.get("data", {}).get("transform", {"size": card.input_size[0]})
    if card.training.get("run", {}).get("channels_last"):
        model.to(memory_format=torch.channels_last)
    return Subject(
        weights.with_suffix(".safetensors"),
        run,
        out,
        model.to(found),
        card,
        found,
        _transform(transform, weights),
        Normalise(card.mean, card.std).to(found),
    )


def _near(folder: Path) -> str:
    """Return the end of a message: the runs or networks that the folder holds, or what to name."""
    runs = sorted(path.parent for path in folder.glob("*/result.json"))
    networks = sorted(path for path in folder.glob("*.safetensors") if path.name != "mix_block.safetensors")
    if runs or networks:
        return f"; name one of those in it: {first_few([*runs, *networks])}"
    return "; name a run's folder or its export/NAME"


def _result_of(path: Path) -> str:
    """Return the name of the network that is a run's result."""
    content = read_json(path)
    branch = content.get("branch") if isinstance(content, dict) else None
    if not isinstance(branch, str):
        raise UserError(f"{path}: not the result of a run (it needs branch); name one of its networks, export/NAME")
    return branch


def _transform(values: dict[str, Any], weights: Path) -> TransformSettings:
    try:
        return TransformSettings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("training", "data", "transform", *map(str, first["loc"])))
        raise UserError(f"{weights}.json: {where}: {first['msg']}; export the backbone again") from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {name}: cannot be used here ({reason}); cpu always can") from error
    return device


class Images:
    """The validation images of a checkpoint.

    Attributes:
        root: Of the data set.
        batch_size: Images in a forward pass.
        batches: Their number.

    Args:
        subject: The checkpoint.
        root: Folder with val/<class>/; None: the one that it was trained on.
        batch_size: None: that of the training, at most 256.

    Raises:
        UserError: The images are not there, or are of other classes than the network.
    """

    def __init__(self, subject: Subject, root: Path | None = None, batch_size: int | None = None) -> None:
        settings = subject.data
        if root is None and "root" not in settings:
            raise UserError(f"{subject.weights}: its card does not say which images it belongs to; name them by --data")
        self.root = Path(settings["root"]) if root is None else root
        prepare = settings.get("prepare", "see docs/data.md")
        if not (self.root / "val").is_dir():
            if root is not None:
                raise UserError(f"--data {root}: no folder val/<class>/ there")
            raise UserError(
                f"{self.root}: no folder val/<class>/ there; name the images by --data, or prepare: {prepare}"
            )
        self.batch_size = batch_size or min(settings.get("batch_size", BATCH), LARGEST_BATCH)
        self._set = SeededImageFolder(self.root / "val", eval_transform(subject.transform))
        if card := read_data_card(self.root):
            check_against(card, self.root, "val", self._set.classes, len(self._set), prepare)
        try:
            require_same_classes(self._set.classes, list(subject.card.classes), str(subject.weights))
        except UserError as error:
            raise UserError(f"{error}; the data set is {self.root}, and --data names another") from error
        workers = min(settings.get("workers", 0), os.cpu_count() or 1)
        self._loader = build_loader(
            self._set,
            EpochSampler(len(self._set), self.batch_size, shuffle=False),
            workers,
            subject.device.type == "cuda",
        )
        self.batches = len(self._loader)
        self._device = subject.device
        self._layout = torch.contiguous_format
        if subject.card.training.get("run", {}).get("channels_last"):
            self._layout = torch.channels_last

    def __len__(self) -> int:
        return len(self._set)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield uint8 images (N, 3, H, W) and labels (N,) int64 on the device, every image once, in a fixed order."""
        try:
            for images, labels in batches_of(self._loader):
                pixels = images.to(self._device, non_blocking=True).contiguous(memory_format=self._layout)
                yield pixels, labels.to(self._device, non_blocking=True)
        finally:
            stop(self._loader)

    def pairs(self, count: int) -> tuple[Tensor, Tensor]:
        """Return `count` pairs of images of far classes, neighbours belonging together.

        Returns:
            uint8 (2 count, 3, H, W) and labels (2 count,) int64, on the device.
        """
        samples = [self._set[0, number] for number in far_pairs(len(self._set), count)]
        labels = torch.tensor([label for _, label in samples], device=self._device)
        return torch.stack([image for image, _ in samples]).to(self._device), labels
