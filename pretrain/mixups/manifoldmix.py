"""ManifoldMix (Verma et al., 2019): MixUp of the input or of a hidden feature map, drawn for each batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pretrain.mixups.mixup import MixUp
from pretrain.mixups.policy import Draw, MixContext, MixResult, PairPolicy, mix_targets
from pretrain.mixups.stage import StageMix


@dataclass(frozen=True)
class StageDraw(Draw):
    """Where the batch is mixed: 0 is the input, 1 the feature map of the first stage."""

    stage: int


@dataclass(frozen=True)
class ManifoldMix(PairPolicy):
    """g = lam * g_k(x_i) + (1 - lam) * g_k(x_j) behind stage k, drawn uniformly from `stages`.

    Labels mix as in MixUp, and stage 0 is MixUp. The loss is soft cross-entropy, as in the paper; the authors' code
    trains BCE on softmax. Stages are those of `stage_features`, in the authors' networks layer1 and layer2.

    Attributes:
        alpha: lambda ~ Beta(alpha, alpha); 2 is the authors' for CIFAR.
        stages: The eligible stages S, 0 the input; the default is the authors' random.randint(0, 2).
    """

    name: ClassVar[str] = "manifoldmix"
    mixes_images: ClassVar[bool] = False
    alpha: float = 2.0
    stages: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        """Check the settings; a ValueError names the wrong one."""
        super().__post_init__()
        if not self.stages or min(self.stages) < 0:
            raise ValueError(f"{self.name}: stages have to be one or more numbers from 0, not {self.stages}")

    def draw_more(self, pairs: Draw, n: int, size: tuple[int, int], generator: torch.Generator | None) -> StageDraw:
        """Draw the stage; see `PairPolicy`."""
        choice = int(torch.randint(len(self.stages), (), generator=generator))
        return StageDraw(pairs.lam, pairs.index, self.stages[choice])

    def apply(self, images: Tensor, targets: Tensor, draw: StageDraw, context: MixContext | None = None) -> MixResult:
        """See `MixPolicy`; the images come back clean where a later stage is mixed, which `StageMix.loss` does."""
        if draw.stage == 0:
            return MixUp(self.alpha).apply(images, targets, draw, context)
        index = draw.index.to(images.device, non_blocking=True)
        lam = images.new_full((len(images),), draw.lam, dtype=torch.float32)
        return StageMix(
            images,
            lam,
            index,
            None,
            mix_targets(targets, index, lam),
            stage=draw.stage,
            mix=lambda own, other: torch.lerp(other, own, draw.lam),
        )
