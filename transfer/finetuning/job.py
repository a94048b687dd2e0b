"""What a fine-tuning command asks for, and how it will run; what both frameworks have in common."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pretrain.console import UserError, warn
from transfer.convert import Converted
from transfer.finetuning import check, scaling
from transfer.finetuning.claim import RESULTS
from transfer.finetuning.scaling import Change


@dataclass(frozen=True)
class Job:
    """What the command line asks for.

    Attributes:
        config: A file of configs/.
        weights: OUT.pth of the framework's converter; None for a random start.
        data_root: Holds VOCdevkit and coco; None for the usual places.
        scale_to: Images in a step instead of the config's, the schedule scaled with them; None leaves it.
        seed: Of the detector's initial values, the order of the pictures and all sampling.
        resume: Go on although the config changed since (weights and seed must be the same).
        eval_only: Evaluate the last checkpoint of the run, or `checkpoint`; train nothing.
        checkpoint: A detector to evaluate, any checkpoint of a run.
        draw: Number of test pictures to draw into the folder `detections`.
        draw_threshold: Score from which a detection is drawn.
    """

    config: Path
    weights: Path | None = None
    data_root: Path | None = None
    scale_to: int | None = None
    seed: int = 0
    resume: bool = False
    eval_only: bool = False
    checkpoint: Path | None = None
    draw: int = 0
    draw_threshold: float = 0.5

    @property
    def results_name(self) -> str:
        """Name of the file of results; the figures of another checkpoint do not replace the run's own."""
        return f"results-{self.checkpoint.stem}.json" if self.checkpoint else RESULTS

    def refuse_nonsense(self) -> None:
        """Raise a UserError for arguments that make no sense, whatever the config says."""
        if self.seed < 0:
            raise UserError(f"--seed {self.seed}: it must be 0 or more, so that the run can be repeated")
        if self.checkpoint and not (self.eval_only and self.checkpoint.is_file()):
            resumes = "--checkpoint goes with --eval-only; training resumes by itself"
            raise UserError(f"{self.checkpoint}: {'no such file' if self.eval_only else resumes}")


@dataclass(frozen=True)
class Reading:
    """A config, and what there is to say about it.

    Attributes:
        cfg: The whole config with the card's preprocessing in it; contradictions are left as they were written.
        given: {key: where it was written, a path or check.COMMAND_LINE}.
        findings: The config compared with the weights and the protocol.
        problems: A line for each contradiction.
    """

    cfg: Any
    given: dict[str, str]
    findings: list[check.Finding]
    problems: list[str]


@dataclass(frozen=True)
class Plan:
    """A job as it will run.

    Attributes:
        cfg: The framework's config, scaled.
        converted: The weights; None for a random start.
        reading: The config as it was read, with what was found in it.
        changes: What --scale-to changed.
        problems: A line for each reason why the job cannot run.
        warnings: A line for each thing that runs, and is not the published protocol.
    """

    cfg: Any
    converted: Converted | None
    reading: Reading
    changes: list[Change]
    problems: list[str]
    warnings: list[str]

    @property
    def start(self) -> str:
        """What the run starts from: "random", or the method and branch of the weights, e.g. "automix teacher"."""
        return self.converted.start if self.converted else "random"

    def folder_name(self, job: Job) -> str:
        """Return the name of the run's own folder below that of its config."""
        scaled = f"-batch{job.scale_to}" if self.changes else ""
        return f"{self.start.replace(' ', '-')}-seed{job.seed}{scaled}"


def announce(plan: Plan) -> None:
    """Tell on the terminal what will run otherwise than published."""
    for line in plan.warnings:
        warn(line)
    if plan.changes:
        Console(stderr=True, highlight=False).print(scaling.as_table(plan.changes))


def print_check(job: Job, plan: Plan, of_processes: Iterable[str] = ()) -> None:
    """Print what the weights ask for beside what the config says, and the scaling.

    Args:
        job: What was asked for.
        plan: How it would run.
        of_processes: Lines on what these processes, and only these, cannot do.

    Raises:
        UserError: Something contradicts; all of it is named.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)  # a file would count as 80
    told = "from scratch: no weights and no card; the preprocessing is that of every start"
    if plan.converted:
        told = f"for {job.weights}: {plan.converted.card.arch}, {plan.start}"
    console.print(f"{job.config} {told}", soft_wrap=True)
    console.print(check.as_table(plan.reading.findings, plan.converted is not None))
    if plan.changes:
        console.print(scaling.as_table(plan.changes))
    for line in (*plan.warnings, *of_processes):
        console.print(f"warning: {line}", soft_wrap=True)
    check.refuse(plan.problems)
