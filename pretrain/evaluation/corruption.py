"""Accuracy on CIFAR-10-C and CIFAR-100-C (Hendrycks and Dietterich 2019; Table 6), from the published files.

A folder holds 19 files, one a corruption, uint8 (5 n, 32, 32, 3): the n test images at severity 1, then at severity 2,
and so on to 5; n is 10,000. labels.npy has the 5 n classes, in CIFAR's own order, which is the alphabet's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pretrain.console import UserError, progress, warn

FIFTEEN = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # meant for validation, and left out by many papers
CORRUPTIONS = FIFTEEN + EXTRA
SEVERITIES = 5
PUBLISHED = 10_000  # images a severity
SIDE = 32  # pixels
WHERE = "the archives are CIFAR-100-C.tar of Zenodo's record 3555552 and CIFAR-10-C.tar of record 2535967"

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class CorruptedImages:
    """The files of a folder, on the disk until they are looked into.

    Attributes:
        labels: (5 n,) int64.
        images: For each corruption (5 n, 32, 32, 3) uint8, mapped into memory.
    """

    labels: Tensor
    images: dict[str, Array]

    @property
    def per_severity(self) -> int:
        """The number n of images at each severity."""
        return len(self.labels) // SEVERITIES


def open_corruptions(folder: str | Path, classes: int) -> CorruptedImages:
    """Open all 19 files and the labels, and check them before anything is computed.

    Args:
        folder: That holds the files.
        classes: Of the network that is to be judged.

    Raises:
        UserError: A file is missing, damaged, or not of the published kind; or the labels are of another number of
            classes.
    """
    folder = Path(folder)
    labels = _open(folder / "labels.npy")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels) or len(labels) % SEVERITIES:
        raise UserError(
            f"{folder / 'labels.npy'}: holds {labels.dtype} {labels.shape}, and labels are whole numbers, as many for "
            f"each of {SEVERITIES} severities; unpack the archive again"
        )
    found = np.unique(labels)
    if found[0] < 0 or found[-1] != classes - 1:
        raise UserError(
            f"{folder / 'labels.npy'}: classes {found[0]} to {found[-1]}, and the network knows {classes}; "
            "take the other of CIFAR-10-C and CIFAR-100-C, or another checkpoint"
        )
    images = {}
    for name in CORRUPTIONS:
        path = folder / f"{name}.npy"
        images[name] = _open(path)
        shape = (len(labels), SIDE, SIDE, 3)
        if images[name].shape != shape or images[name].dtype != np.uint8:
            raise UserError(
                f"{path}: holds {images[name].dtype} {images[name].shape} where uint8 {shape} is needed; "
                "unpack the archive again"
            )
    opened = CorruptedImages(torch.from_numpy(labels.astype(np.int64)), images)
    if opened.per_severity != PUBLISHED:
        warn(f"{folder}: {opened.per_severity:,} images a severity, and the published set has {PUBLISHED:,}")
    return opened


def _open(path: Path) -> Array:
    try:
        opened: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; {WHERE}") from error
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path}: not a whole .npy file ({error}); unpack the archive again; {WHERE}") from error
    return opened


@torch.no_grad()
def corruption_accuracy(
    model: nn.Module,
    corrupted: CorruptedImages,
    prepare: Callable[[Tensor], Tensor],
    batch_size: int,
    device: torch.device,
) -> dict[str, Any]:
    """Measure the accuracy under every corruption at every severity.

    Args:
        model: Normalised images to logits, in eval mode, on `device`.
        corrupted: See `open_corruptions`.
        prepare: uint8 images (N, 3, 32, 32) on `device` to what the network takes.
        batch_size: Images in a forward pass.
        device: Of the network.

    Returns:
        {"mean", "mean_15_without_the_4_extra_ones", "by_corruption": {name: [of severity 1, .., 5]}}, in percent. The
        first is the plain mean over all 19 x 5; the second over the 15 that many other papers use.
    """
    n = corrupted.per_severity
    found: dict[str, list[float]] = {}
    with progress("corruptions", len(CORRUPTIONS) * SEVERITIES * n) as advance:
        for name in CORRUPTIONS:
            found[name] = []
            for first in range(0, SEVERITIES * n, n):
                right = torch.zeros((), dtype=torch.int64, device=device)
                for start in range(first, first + n, batch_size):
                    part = slice(start, min(start + batch_size, first + n))
                    images = torch.from_numpy(np.array(corrupted.images[name][part])).permute(0, 3, 1, 2).to(device)
                    right += (model(prepare(images)).argmax(dim=1) == corrupted.labels[part].to(device)).sum()
                    advance(len(images), name)
                found[name].append(100 * int(right) / n)
    return {
        "mean": _mean(found, CORRUPTIONS),
        "mean_15_without_the_4_extra_ones": _mean(found, FIFTEEN),
        "by_corruption": found,
    }


def _mean(found: dict[str, list[float]], names: tuple[str, ...]) -> float:
    return fmean(value for name in names for value in found[name])
