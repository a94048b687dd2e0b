"""The offline form of SuperMix: a set of mixed images with the teacher's soft labels, for training to read.

A mix depends on (seed, chunk, place in the chunk) alone, and every chunk is written before it is counted, so that an
interrupted set goes on where it was and ends with the same bytes.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from pretrain.backbones import BackboneCard, load_backbone
from pretrain.console import UserError, progress
from pretrain.data.datasets import SeededImageFolder
from pretrain.data.seeds import derive_seed
from pretrain.data.soft_labels import (
    CARD,
    LABELS,
    image_path,
    read_labels,
    require_same_classes,
    write_card,
    write_labels,
)
from pretrain.files import atomic_path, read_json, require_free_space, write_json
from pretrain.mixups.supermix import SuperMix, blend


@dataclass(frozen=True)
class SetSummary:
    """What `generate` left on the disk: mixes kept and dropped, and whether they had been there before."""

    root: Path
    kept: int
    dropped: int
    already_complete: bool


def generate(
    data: str | Path,
    teacher: str | Path,
    out: str | Path,
    mixes: int | None = None,
    policy: SuperMix | None = None,
    batch_size: int = 100,
    resize: int | None = None,
    seed: int = 0,
) -> SetSummary:
    """Mix the images of DATA/train and write the mixes that succeed; the others are dropped.

    Each label is the teacher's prediction on the image as it is stored, in 8 bits. A GPU is used where there is one; it
    rounds differently, so a set begun there is finished there.

    Args:
        data: Folder with train/<class>/.
        teacher: An exported backbone of the same classes; its card gives the images' side and their normalisation.
        out: A folder for the set, empty, new, or begun with the same arguments.
        mixes: How many to try; None: as many as there are images.
        policy: SuperMix with its settings.
        batch_size: Images that are mixed with each other, a chunk.
        resize: Short side to which images are resized before a random crop of the teacher's side, pixels; None: that
            side. Half of the images are flipped.
        seed: Decides order, crops, flips, and shares.

    Raises:
        UserError: The images or the teacher are missing or do not fit together; an argument is impossible; `out` holds
            something else; the disk is too small; nothing succeeded.
    """
    out, policy = Path(out), replace(policy or SuperMix(), relabel=True)
    network, card = load_backbone(teacher)
    size = card.input_size[0]
    resize = resize or size
    images = _open_images(Path(data) / "train", size, resize, seed)
    require_same_classes(images.classes, list(card.classes), str(teacher))
    mixes = len(images) if mixes is None else mixes
    if mixes < 1 or batch_size < 1 or resize < size:
        raise UserError(f"mixes and batch size have to be positive, and resize at least the teacher's {size} pixels")
    numbers = {"mixes": mixes, "batch_size": batch_size, "size": size, "resize": resize, "seed": seed}
    made = {"teacher": card.sha256, "training_images": len(images), **numbers, **asdict(policy)}
    _require_same(out, made)
    complete = (out / CARD).exists()
    if not complete:
        require_free_space(out, mixes * (3 * size**2 + 8 * len(card.classes)), "the set of mixed images")
        write_json(out / "settings.json", made)
        labels = _Writer(out, images, network, card, policy, batch_size).write(mixes)
        if not len(labels):
            raise UserError(f"{out}: none of {mixes} mixes succeeded; does the teacher know these classes?")
        write_labels(out / LABELS, labels)
        write_card(out, images.classes, len(labels), dropped=mixes - len(labels), **made)
    shutil.rmtree(out / "parts", ignore_errors=True)
    kept: int = read_json(out / CARD)["count"]
    return SetSummary(out, kept, mixes - kept, complete)


class _Writer:
    """Writes a set chunk by chunk: images, then OUT/parts/CHUNK.safetensors with their labels, which counts them."""

    def __init__(
        self,
        out: Path,
        images: SeededImageFolder,
        network: nn.Module,
        card: BackboneCard,
        policy: SuperMix,
        batch_size: int,
    ) -> None:
        self.out, self.images, self.policy, self.batch_size = out, images, policy, batch_size
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.teacher = network.requires_grad_(False).to(self.device)
        self.mean, self.std = (torch.tensor(each, device=self.device).view(3, 1, 1) for each in (card.mean, card.std))

    def write(self, mixes: int) -> Tensor:
        """Write what is not there yet of `mixes` mixes and return the labels of those kept, (N, K) float32."""
        for leftover in (self.out / "images").glob(".*.png"):  # of a process that was killed while it wrote
            leftover.unlink()
        labels: list[Tensor] = []
        parts = self.out / "parts"
        done = min(mixes, self.batch_size * sum(1 for _ in parts.glob("[0-9]*")))
        with progress("SuperMix", mixes, done) as advance:
            for chunk, first in enumerate(range(0, mixes, self.batch_size)):
                part, kept = parts / f"{chunk:06d}.safetensors", sum(map(len, labels))
                if new := not part.exists():
                    self._write_chunk(part, kept, *self.mix(chunk, min(self.batch_size, mixes - first)))
                labels.append(read_labels(part))
                seen = min(first + self.batch_size, mixes)
                advance((seen - first) * new, f"{seen - kept - len(labels[-1])} dropped")
        return torch.cat(labels)

    def _write_chunk(self, part: Path, kept: int, pixels: Tensor, labels: Tensor) -> None:
        for number, image in enumerate(pixels.permute(0, 2, 3, 1).numpy(), start=kept):
            with atomic_path(image_path(self.out, number), durable=False) as temporary:
                Image.fromarray(image).save(temporary)
        os.sync()  # so that a chunk is never counted without its images
        write_labels(part, labels)

    def mix(self, chunk: int, size: int) -> tuple[Tensor, Tensor]:
        """Return those of the first `size` mixes of a chunk that succeed.

        Returns:
            Images uint8 (n, 3, H, W) and labels (n, K) float32, on the CPU.
        """
        raw = torch.stack([self.images[position][0] for position in self._positions(chunk)]).to(self.device)
        generator = torch.Generator().manual_seed(derive_seed(self.images.seed, chunk, 0, 2))
        draw = self.policy.sample(len(raw), (raw.shape[-2], raw.shape[-1]), generator)
        chosen, shares = self.policy.choose(draw.index)[:size].to(self.device), draw.shares[:size].to(self.device)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            found = self.policy.optimise(self._normalise(raw), chosen, shares, self.teacher)
            mixed = blend(raw[chosen[found.success]], found.masks[found.success]).round().to(torch.uint8)
            labels = self.teacher(self._normalise(mixed)).softmax(dim=1) if len(mixed) else found.logits[:0]
        return mixed.cpu(), labels.cpu()

    def _positions(self, chunk: int) -> list[tuple[int, int]]:
        """Return (epoch, index) of the images of a chunk: pass after pass through the folder, each in its own order."""
        n, seed = len(self.images), self.images.seed
        numbers = range(chunk * self.batch_size, (chunk + 1) * self.batch_size)
        orders = {
            epoch: torch.randperm(n, generator=torch.Generator().manual_seed(derive_seed(seed, epoch))).tolist()
            for epoch in {number // n for number in numbers}
        }
        return [(number // n, orders[number // n][number % n]) for number in numbers]

    def _normalise(self, pixels: Tensor) -> Tensor:
        return (pixels / 255 - self.mean) / self.std


def _open_images(folder: Path, size: int, resize: int, seed: int) -> SeededImageFolder:
    if not any(folder.glob("*/*.*")):
        raise UserError(f"{folder}: no images under <class>/ there")
    flipped = [v2.RandomCrop(size), v2.RandomHorizontalFlip()]
    return SeededImageFolder(folder, v2.Compose([v2.PILToTensor(), v2.Resize(resize, antialias=True), *flipped]), seed)


def _require_same(out: Path, made: dict[str, Any]) -> None:
    """Raise a UserError if `out` holds a set that was made, or begun, otherwise, or something that is no set."""
    begun = out / "settings.json"
    if not begun.exists():
        if out.exists() and any(out.iterdir()):
            raise UserError(f"{out}: the folder holds other things than a set; give an empty or a new one")
        return
    there = read_json(begun)
    if odd := [f"{key} is {there.get(key)} there and {made[key]} here" for key in made if there.get(key) != made[key]]:
        raise UserError(f"{out}: holds a set made otherwise ({'; '.join(odd)}); give the same, or another folder")
