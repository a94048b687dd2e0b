"""What a run of AutoMix leaves of its looks at the mixing: the masks of the same pairs at several epochs (Fig. 7)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pretrain.console import UserError
from pretrain.files import atomic_path

LAM = 0.5  # the share of Fig. 7
FOLDER = "mixes"


@dataclass(frozen=True)
class MaskLook:
    """The masks of some pairs for lambda = `LAM`. Mixed images follow from them, and are not kept.

    Attributes:
        pairs: (2 P, 3, H, W) uint8, neighbours belonging together.
        masks: (P, 1, H, W) float16 in [0, 1], the weight of a pair's first image.
    """

    pairs: Tensor
    masks: Tensor

    def mixed(self) -> Tensor:
        """Return the mixed images (P, 3, H, W), float in [0, 1] (Eq. 4; normalised images mix to the same)."""
        images, masks = self.pairs.float() / 255, self.masks.float()
        return masks * images[::2] + (1 - masks) * images[1::2]

    def spread(self) -> float:
        """Return the standard deviation inside a mask, mean over the pairs: 0 is MixUp, 0.5 halves cut apart."""
        return float(self.masks.float().flatten(1).std(dim=1, correction=0).mean())

    def save(self, stem: Path) -> None:
        """Write STEM.safetensors atomically."""
        with atomic_path(stem.with_suffix(".safetensors")) as temporary:
            save_file({"pairs": self.pairs.contiguous(), "masks": self.masks.contiguous()}, temporary)


def look_stem(run: Path, epoch: int) -> Path:
    """Return where a run keeps its look after an epoch, from 1; endings are .safetensors and .png."""
    return run / FOLDER / f"epoch_{epoch:04d}"


def find_looks(run: Path, suffix: str = ".safetensors") -> dict[int, Path]:
    """Return the files that a run's looks left, by epoch, in order."""
    found = {}
    for path in (run / FOLDER).glob(f"epoch_*{suffix}"):
        if match := re.fullmatch(r"epoch_(\d+)", path.stem):
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def forget_looks_after(run: Path, epoch: int) -> None:
    """Remove what a run left of looks after `epoch`, from where it starts or goes on."""
    for suffix in (".safetensors", ".png"):
        for later, path in find_looks(run, suffix).items():
            if later > epoch:
                path.unlink()


def read_look(path: Path) -> MaskLook:
    """Read what `MaskLook.save` wrote.

    Raises:
        UserError: The file is damaged, or holds something else.
    """
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: no masks can be read here ({error}); delete it, or train again") from error
    look = MaskLook(found.get("pairs", torch.empty(0)), found.get("masks", torch.empty(0)))
    two, _, height, width = look.pairs.shape if look.pairs.ndim == 4 else (0, 0, 0, 0)
    if not two or look.masks.shape != (two // 2, 1, height, width):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(found.items()))
        raise UserError(f"{path}: not the masks of a run, pairs (2 P, 3, H, W) and masks (P, 1, H, W), but {shapes}")
    return look
