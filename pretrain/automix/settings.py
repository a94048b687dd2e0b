"""Settings of AutoMix. The defaults are the paper's text; a preset names another set of them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    # The authors' ImageNet ResNets; docs/automix.md has their other recipes.
    "openmixup": {
        "heads": 2,
        "lam_margin": 0.08,
        "mask_ratio_over": "batch",
        "gamma_schedule": "cosine",
        "teacher_statistics": "own",
        "momentum_hold": 0.1,
        "momentum_end": 0.99999,
        "mix_block_lr": 0.1,
        "mix_block_min_lr": 1e-3,
    },
    "fast": {"split_batch": True},
}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AutoMixSettings:
    """Settings of AutoMix; docs/automix.md has a table of them with the paper's and the authors' values.

    Attributes:
        preset: Which defaults hold for what is not given: the paper's text, the authors' code ("openmixup"), or
            "fast", which reads `trained_mix_block`.
        alpha: lambda ~ Beta(alpha, alpha).
        feature_layer: Stage l whose feature map the Mix Block reads, 1 to 4.
        one_hot_ce: Whether the student also learns from the clean images (l_CE of Eq. 8).
        split_batch: Whether half of a batch is seen clean and half mixed, instead of all of it in both ways; with
            `trained_mix_block`.
        heads: 1: clean and mixed images share the classification head; 2: each has its own, in student and teacher.
        lam_margin: Where lambda or 1 - lambda is at most this, the student gets plain MixUp.
        gamma: Weight of the mask-ratio loss at the start (Eq. 7); 0 leaves the loss out.
        gamma_schedule: How gamma falls to 0 along the run, if it does.
        margin: epsilon of Eq. 7.
        mask_ratio_over: Whether Eq. 7 takes the mean mask of each sample or of the batch.
        momentum: m of Eq. 12 at the start. None: no momentum pipeline, one network does both tasks (Eq. 3).
        momentum_end, momentum_hold: m at the end, and the part of the run before it starts to move, along a cosine.
        teacher_statistics: Whether the running statistics of the teacher's batch norms are averages of the student's,
            or come from its own passes, whose clean one then goes through the whole network.
        generation_skip: Part of the steps without the teacher's branch.
        mix_block_lr, mix_block_min_lr: The Mix Block's own learning rate, at the peak and at the end; None: the
            student's.
        reduction, lam_embedding, upsample, norm: The Mix Block's, see `MixBlock`.
        trained_mix_block: A Mix Block of an earlier run (export/mix_block.safetensors). It is frozen, reads the frozen
            teacher exported beside it, and the generation branch is dropped.
    """

    name: Literal["automix"] = "automix"
    preset: Literal["paper", "openmixup", "fast"] = "paper"
    alpha: float = 2.0
    feature_layer: int = 3
    one_hot_ce: bool = True
    split_batch: bool = False
    heads: Literal[1, 2] = 1
    lam_margin: float = 0.0
    gamma: float = 0.1
    gamma_schedule: Literal["linear", "cosine", "constant"] = "linear"
    margin: float = 0.1
    mask_ratio_over: Literal["sample", "batch"] = "sample"
    momentum: float | None = 0.999
    momentum_end: float = 1.0
    momentum_hold: float = 0.0
    teacher_statistics: Literal["averaged", "own"] = "averaged"
    generation_skip: float = 0.0
    mix_block_lr: float | None = None
    mix_block_min_lr: float | None = None
    reduction: int = 2
    lam_embedding: bool = True
    upsample: Literal["nearest", "bilinear"] = "nearest"
    norm: Literal["bn"] | None = None
    trained_mix_block: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _fill_in_the_preset(cls, values: Any) -> Any:
        given = dict(values.kwargs or {}) if isinstance(values, ArgsKwargs) else values
        if not isinstance(given, dict):
            return values
        return {**PRESETS.get(str(given.get("preset", "paper")), {}), **given}

    @model_validator(mode="after")
    def _fit_together(self) -> AutoMixSettings:
        if self.alpha <= 0:
            raise ValueError(f"alpha is {self.alpha:g}, but Beta(alpha, alpha) needs a positive one")
        if self.preset == "fast" and self.trained_mix_block is None:
            raise ValueError("preset 'fast' needs trained_mix_block, the export/mix_block.safetensors of another run")
        if self.split_batch and (self.trained_mix_block is None or not self.one_hot_ce):
            raise ValueError(
                "split_batch is for a trained_mix_block with one_hot_ce: leave it out, or use preset 'fast'"
            )
        if self.trained_mix_block and self.momentum is None:
            raise ValueError("a trained_mix_block needs the momentum pipeline: set momentum")
        if self.trained_mix_block and self.teacher_statistics == "own":
            raise ValueError(
                "with a trained_mix_block the teacher makes no passes: set teacher_statistics to 'averaged'"
            )
        if not 0 <= self.generation_skip < 1 or not 0 <= self.momentum_hold < 1:
            raise ValueError("generation_skip and momentum_hold are parts of the steps, at least 0 and below 1")
        return self
