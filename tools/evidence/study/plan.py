"""The study's cells: a source of images, a way of training, a seed; and the commands that fill each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evidence.stages import Stage
from pretrain.console import UserError, did_you_mean

WORK = Path("work_dirs/study")  # where the configs of configs/study look for the data
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Condition:
    """One way of training.

    Attributes:
        key: Of folders and records.
        title: In tables.
        method: As tools/pretrain.sh has it.
        options: What differs from the config's settings of that method.
        group: "main" or "ablation".
        needs: The condition whose Mix Block, of the same source and seed, is read.
    """

    key: str
    title: str
    method: str
    options: dict[str, Any] = field(default_factory=dict, hash=False)
    group: str = "main"
    needs: str = ""

    @property
    def has_teacher(self) -> bool:
        """Whether a momentum encoder is the result."""
        own = self.method == "automix" and self.options.get("method.momentum", 0.0) is not None
        return own or self.options.get("method.momentum") is not None


MOMENTUM = {"method.momentum": 0.98, "method.momentum_end": 0.998}  # as in configs/study
WITH_CE = {"method.one_hot_ce": True}
WITHOUT_CE = {"method.one_hot_ce": False}
CONDITIONS = (
    Condition("vanilla", "Vanilla", "vanilla"),
    Condition("mixup", "MixUp", "mixup"),
    Condition("cutmix", "CutMix", "cutmix"),
    Condition("resizemix", "ResizeMix", "resizemix"),
    Condition("puzzlemix", "PuzzleMix", "puzzlemix"),
    Condition("automix", "AutoMix", "automix"),
    Condition("automix_fast", "AutoMix, fast", "automix", {"method.preset": "fast"}, needs="automix"),
    Condition("random_grids", "Random grids + MP + CE", "random_grids", {**MOMENTUM, **WITH_CE}, group="ablation"),
    Condition(
        "cross_attention",
        "AutoMix without λ embedding and l_λ",
        "automix",
        {"method.lam_embedding": False, "method.gamma": 0.0},
        group="ablation",
    ),
    Condition("lam_embedding", "AutoMix without l_λ", "automix", {"method.gamma": 0.0}, group="ablation"),
    Condition(
        "no_momentum", "AutoMix without MP and CE", "automix", {"method.momentum": None, **WITHOUT_CE}, group="ablation"
    ),
    Condition(
        "momentum_zero",
        "AutoMix with m = 0, without CE",
        "automix",
        {"method.momentum": 0.0, "method.momentum_end": 0.0, **WITHOUT_CE},
        group="ablation",
    ),
    Condition("no_ce", "AutoMix without CE", "automix", WITHOUT_CE, group="ablation"),
    Condition("mixup_mp", "MixUp + MP", "mixup", MOMENTUM, group="ablation"),
    Condition("mixup_mp_ce", "MixUp + MP + CE", "mixup", {**MOMENTUM, **WITH_CE}, group="ablation"),
    Condition("cutmix_mp", "CutMix + MP", "cutmix", MOMENTUM, group="ablation"),
    Condition("cutmix_mp_ce", "CutMix + MP + CE", "cutmix", {**MOMENTUM, **WITH_CE}, group="ablation"),
)
BY_KEY = {condition.key: condition for condition in CONDITIONS}


@dataclass(frozen=True)
class Source:
    """Where the images come from.

    Attributes:
        key: Of folders and records.
        title: In tables.
        config: What trains on it.
        prepare: The command that writes it, and the file that is there afterwards.
        scenes: Whether there are boxes: then localisation and detection are measured too.
    """

    key: str
    title: str
    config: str
    prepare: tuple[tuple[str, ...], Path]
    scenes: bool = False


SOURCES = (
    Source(
        "scenes",
        "Picture scenes",
        "configs/study/scenes.py",
        (("python", "tools/study.py", "--prepare"), WORK / "data/scenes/complete.json"),
        scenes=True,
    ),
    Source(
        "digits",
        "Digits",
        "configs/study/digits.py",
        (("python", "tools/prepare_digits.py", "--out", str(WORK / "data/digits")), WORK / "data/digits/dataset.json"),
    ),
)


@dataclass(frozen=True)
class Cell:
    """One training and all that is measured of it."""

    source: Source
    condition: Condition
    seed: int

    @property
    def name(self) -> str:
        """Of its record, e.g. "scenes-automix-0"."""
        return f"{self.source.key}-{self.condition.key}-{self.seed}"

    @property
    def folder(self) -> Path:
        """Of everything that it leaves."""
        return WORK / self.source.key / self.condition.key / f"seed{self.seed}"

    @property
    def run(self) -> Path:
        """Folder of its training."""
        return self.folder / self.condition.method

    @property
    def network(self) -> Path:
        """The exported network that is the result, without its ending."""
        return self.run / "export" / ("teacher" if self.condition.has_teacher else "model")

    @property
    def needed(self) -> Cell | None:
        """The cell whose Mix Block is read, where there is one."""
        return Cell(self.source, BY_KEY[self.condition.needs], self.seed) if self.condition.needs else None


def cells(quick: bool = False) -> list[Cell]:
    """Return the cells in the order in which they are filled: what is compared first, then the ablations, by seeds.

    Args:
        quick: Only the part that takes a quarter of an hour: one seed, AutoMix against one or two others.
    """
    if quick:
        wanted = {"scenes": ("automix", "vanilla"), "digits": ("automix", "mixup", "vanilla")}  # the longest first
        return [Cell(source, BY_KEY[key], 0) for source in SOURCES for key in wanted[source.key]]
    groups = ("main", "ablation")
    return [
        Cell(source, condition, seed)
        for group in groups
        for seed in SEEDS
        for source in SOURCES
        for condition in sorted(CONDITIONS, key=lambda c: c.key != "automix")  # the longest first
        if condition.group == group
    ]


def chosen(cells: Sequence[Cell], words: Sequence[str]) -> list[Cell]:
    """Return the cells whose names have all the words, each a part of a name or several, e.g. "mixup", "scenes-mixup".

    Raises:
        UserError: A word is in no name, or no name has them all.
    """
    parts = [part for word in words for part in word.split("-")]
    known = list(dict.fromkeys(part for cell in cells for part in cell.name.split("-")))
    for part in parts:
        if part not in known:
            raise UserError(f"--only {part}: no cell has this word in its name{did_you_mean(part, known)}")
    found = [cell for cell in cells if set(parts) <= set(cell.name.split("-"))]
    if not found:
        raise UserError(
            f"--only {' '.join(words)}: no cell has all these words in its name; "
            "give at most one source, one condition and one seed"
        )
    return found


def stages(cell: Cell) -> list[Stage]:
    """Return the commands that fill a cell, in order."""
    return list(_stages(cell))


def _stages(cell: Cell) -> Iterator[Stage]:
    source, condition, folder = cell.source, cell.condition, cell.folder
    command, makes = source.prepare
    yield Stage("data", f"{source.title}: data", command, makes)
    options = {**condition.options, "run.seed": cell.seed}
    if cell.needed:
        options["method.trained_mix_block"] = str(cell.needed.run / "export/mix_block.safetensors")
    yield Stage(
        "train",
        "training",
        ("tools/pretrain.sh", source.config, "--method", condition.method, "--work-dir", str(folder))
        + ("--resume", "auto", "--cfg-options", *(f"{key}={value}" for key, value in options.items())),
        cell.run / "result.json",
        ("data",),
    )
    yield Stage(
        "evaluate",
        "evaluation",
        ("python", "tools/evaluate.py", f"{cell.network}.safetensors", "--out", str(folder / "evaluation"))
        + ("--metrics", "accuracy", "ece", "fgsm", "mixed"),
        folder / "evaluation/evaluation.json",
        ("train",),
    )
    if not source.scenes:
        return
    data = makes.parent
    yield Stage(
        "wsol",
        "localisation",
        ("python", "tools/eval_wsol.py", "--checkpoint", f"{cell.network}.safetensors")
        + ("--data", str(data / "CUB_200_2011"), "--input-size", "128", "--draw", "0", "--out", str(folder / "wsol")),
        folder / "wsol/wsol.json",
        ("train",),
    )
    yield Stage(
        "convert",
        "conversion with proof",
        ("python", "tools/convert_to_mmdet.py", f"{cell.network}.safetensors", str(folder / "mmdet.pth"))
        + ("--head", "fpn"),
        folder / "mmdet.pth",
        ("train",),
    )
    yield Stage(
        "detect",
        "detection transfer",
        ("python", "tools/finetune_mmdet.py", "configs/study/detection.py", "--weights", str(folder / "mmdet.pth"))
        + ("--data-root", str(data), "--work-dir", str(folder / "detection"), "--seed", str(cell.seed), "--resume"),
        folder / "detection/results.json",
        ("convert",),
    )
