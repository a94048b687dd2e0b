"""What a fine-tuning command asks for, read and checked before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from pretrain.console import UserError
from transfer import check, claim
from transfer.convert import Converted
from transfer.files import read_converted
from transfer.mmdet.config import Reading, read_config, set_data_root
from transfer.mmdet.launch import Ranks
from transfer.mmdet.scale import batch_problems, scale_to, scaled_keys, warnings_of
from transfer.scaling import Change, scaling_problems
from transfer.settings import settings_of


@dataclass(frozen=True)
class Job:
    """What the command line asks for.

    Attributes:
        config: A file of configs/mmdet or configs/quickstart.
        weights: OUT.pth of tools/convert_to_mmdet.py; None for a random start.
        data_root: Replaces the configuration's `data_root`.
        work_dir: Where everything goes; None for work_dirs/mmdet/<config>/<start>-seed<seed>, with -batch<N> where
            scaled.
        launcher: "none", "pytorch" (torchrun), "slurm"; None finds torchrun by itself.
        scale_to: Images in a step instead of the configuration's, the schedule scaled with them; None leaves it.
        seed: Of the detector's initial values, the order of the pictures and all sampling.
        resume: Go on although the configuration changed since (weights and seed must be the same).
        eval_only: Evaluate the last checkpoint in `work_dir`, or `checkpoint`; train nothing.
        checkpoint: A detector to evaluate, any checkpoint of a run.
        draw: Number of test pictures to draw into `work_dir`/detections.
        draw_threshold: Score from which a detection is drawn.
        options: --cfg-options, "key=value" each.
    """

    config: Path
    weights: Path | None = None
    data_root: Path | None = None
    work_dir: Path | None = None
    launcher: str | None = None
    scale_to: int | None = None
    seed: int = 0
    resume: bool = False
    eval_only: bool = False
    checkpoint: Path | None = None
    draw: int = 0
    draw_threshold: float = 0.5
    options: Sequence[str] = ()

    @property
    def results_name(self) -> str:
        """Name of the file of results; the figures of another checkpoint do not replace the run's own."""
        return f"results-{self.checkpoint.stem}.json" if self.checkpoint else claim.RESULTS


@dataclass(frozen=True)
class Plan:
    """A job as it will run.

    Attributes:
        cfg: Scaled, with the card's preprocessing and the data root in it.
        converted: The weights; None for a random start.
        reading: The configuration as it was read, with what was found in it.
        changes: What --scale-to changed.
        problems: A line for each reason why the job cannot run.
        of_processes: A line for each reason why it cannot run on these processes.
        ranks: The processes.
        folder: Where everything goes.
    """

    cfg: Config
    converted: Converted | None
    reading: Reading
    changes: list[Change]
    problems: list[str]
    of_processes: list[str]
    ranks: Ranks
    folder: Path

    @property
    def start(self) -> str:
        """What the run starts from: "random", or the method and branch of the weights, e.g. "automix teacher"."""
        return self.converted.start if self.converted else "random"

    @property
    def warnings(self) -> list[str]:
        """A line for each thing that runs, and is not the published protocol."""
        return [*check.departures(self.reading.findings), *warnings_of(self.cfg, self.ranks.world)]


def make_plan(job: Job, ranks: Ranks) -> Plan:
    """Read the configuration and the weights, compare them, and scale; no data set is read and nothing is built.

    Raises:
        UserError: A file cannot be read, a key is unknown, or an argument makes no sense. What contradicts the weights
            or the protocol is in the plan's problems.
    """
    if job.seed < 0:
        raise UserError(f"--seed {job.seed}: it must be 0 or more, so that the run can be repeated")
    if job.checkpoint and not (job.eval_only and job.checkpoint.is_file()):
        reason = "no such file" if job.eval_only else "--checkpoint goes with --eval-only; training resumes by itself"
        raise UserError(f"{job.checkpoint}: {reason}")
    converted = read_converted(job.weights, "mmdet") if job.weights else None
    head, source = (converted.head, converted.source) if converted else ("", "")
    reading = read_config(job.config, converted.card if converted else None, list(job.options), head, source)
    cfg, problems, changes = reading.cfg, list(reading.problems), list[Change]()
    if job.scale_to is not None:
        contradictions = scaling_problems(job.scale_to, scaled_keys(cfg), reading.given)
        problems += contradictions
        known = (cfg.get("auto_scale_lr") or {}).get("base_batch_size")
        changes = [] if contradictions or not known else scale_to(cfg, job.scale_to, ranks.world)
    of_processes = batch_problems(cfg, ranks.world, torch.cuda.is_available(), job.scale_to)
    if job.data_root is not None:
        set_data_root(cfg, job.data_root)
    start = (converted.start if converted else "random").replace(" ", "-")
    name = f"{start}-seed{job.seed}" + (f"-batch{job.scale_to}" if changes else "")
    folder = job.work_dir or Path("work_dirs", "mmdet", job.config.stem, name)
    return Plan(cfg, converted, reading, changes, problems, of_processes, ranks, folder)


def identity(job: Job, plan: Plan) -> dict[str, Any]:
    """Return what tells this run from others."""
    batch, world = plan.cfg.train_dataloader.batch_size * plan.ranks.world, plan.ranks.world
    settings = settings_of(plan.cfg, batch)
    return claim.identity(plan.converted, job.weights, job.seed, batch, world, plan.changes, settings)
