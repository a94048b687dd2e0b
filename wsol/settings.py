"""How to evaluate: the settings of tools/eval_wsol.py, checked."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pretrain.console import UserError, did_you_mean
from wsol.counting.ranks import Ranks
from wsol.maps.cam import OUTPUT_STRIDES
from wsol.maps.explain import LABELS, METHODS
from wsol.metadata import SPLITS

LEAST_INTERVAL = 1e-4  # the counts of every class take memory in proportion
LARGEST_INPUT = 4096  # pixels of a side; a batch of more fills the memory of any machine
CHOICES = {
    "split": SPLITS,
    "threshold_from": ("auto", "val", "none"),
    "output_stride": OUTPUT_STRIDES,
    "cam": METHODS,
    "label": LABELS,
}


@dataclass(frozen=True)
class Settings:
    """How to evaluate.

    Attributes:
        split: "train", "val" or "test".
        threshold_from: Where thresholds are chosen beside the oracle's: "val", "none", or "auto", which is val where
            it is there.
        interval: Step of the score thresholds; wsolevaluation's main.py uses 0.001.
        input_size: Height and width to which images are resized, pixels.
        output_stride: "16": the last stage of a ResNet keeps its resolution, as in wsolevaluation; "8": the last two
            do, its `large_feature_map`; "stock": the network as it was trained.
        cam: Which class activation map; see `wsol.maps.explain`.
        label: The class of the map: "true" or "predicted".
        device: "auto", or a torch device such as "cpu" or "cuda:1".
        batch_size: Images in a forward pass.
        workers: Threads that read images, and threads that measure score maps.
        draw: Number of images, spread over the split, drawn with their boxes.
        sheet: Number of best and number of worst cases on the contact sheet.
        random_weights: Evaluate the checkpoint's architecture with fresh random weights instead of its own: the
            control that says how much of a figure comes from the architecture and from the pictures.
    """

    split: str = "test"
    threshold_from: str = "auto"
    interval: float = 0.001
    input_size: int = 224
    output_stride: str = "16"
    cam: str = "cam"
    label: str = "true"
    device: str = "auto"
    batch_size: int = 32
    workers: int = 2
    draw: int = 0
    sheet: int = 8
    random_weights: bool = False

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise UserError(
                    f"unknown {name} '{getattr(self, name)}'{did_you_mean(getattr(self, name), list(known))}"
                )
        if not LEAST_INTERVAL <= self.interval <= 1:
            raise UserError(
                f"the interval is {self.interval:g}; it must be from {LEAST_INTERVAL:g} to 1: with 0.001 each of the "
                "256 levels of a map is tried already"
            )
        for name, least in (("input_size", 1), ("batch_size", 1), ("workers", 1), ("draw", 0), ("sheet", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.input_size > LARGEST_INPUT:
            raise UserError(f"input_size is {self.input_size}; it must be at most {LARGEST_INPUT}")
        if self.threshold_from == "val" and self.split == "val":
            raise UserError(
                "thresholds chosen on val are for another split; give --split test, or --threshold-from none"
            )


def choose_device(name: str, ranks: Ranks | None = None) -> torch.device:
    """Return the device of that name; "auto" is the process's own GPU where CUDA has one, else the CPU.

    Raises:
        UserError: torch does not know the name, or the device is not there.
    """
    if name == "auto":
        name = f"cuda:{ranks.local if ranks else 0}" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"no device '{name}' ({why}); use --device auto, cpu or cuda") from error
    return device
