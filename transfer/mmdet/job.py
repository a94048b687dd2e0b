"""What a fine-tuning command asks for, read and checked before anything is built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from transfer.files import read_converted
from transfer.finetuning import check, claim
from transfer.finetuning import job as common
from transfer.finetuning.scaling import Change, scaling_problems
from transfer.finetuning.settings import settings_of
from transfer.mmdet.config import read_config, set_data_root
from transfer.mmdet.launch import Ranks
from transfer.mmdet.scale import batch_problems, scale_to, scaled_keys, warnings_of


@dataclass(frozen=True)
class Job(common.Job):
    """What the command line asks for.

    Attributes:
        work_dir: Where everything goes; None for work_dirs/mmdet/<config>/<start>-seed<seed>, with -batch<N> where
            scaled.
        launcher: "none", "pytorch" (torchrun), "slurm"; None finds torchrun by itself.
        options: --cfg-options, "key=value" each.
    """

    work_dir: Path | None = None
    launcher: str | None = None
    options: Sequence[str] = ()


@dataclass(frozen=True)
class Plan(common.Plan):
    """A job as it will run; its config has the card's preprocessing and the data root in it.

    Attributes:
        ranks: The processes.
        of_processes: A line for each reason why it cannot run on these processes.
    """

    ranks: Ranks
    of_processes: list[str]

    @property
    def folder(self) -> Path:
        """The work directory."""
        return Path(self.cfg.work_dir)


def make_plan(job: Job, ranks: Ranks) -> Plan:
    """Read the configuration and the weights, compare them, and scale; no data set is read and nothing is built.

    Raises:
        UserError: A file cannot be read, a key is unknown, or an argument makes no sense. What contradicts the weights
            or the protocol is in the plan's problems.
    """
    job.refuse_nonsense()
    converted = read_converted(job.weights, "mmdet") if job.weights else None
    head, source = (converted.head, converted.source) if converted else ("", "")
    reading = read_config(job.config, converted.card if converted else None, list(job.options), head, source)
    cfg, problems, changes = reading.cfg, list(reading.problems), list[Change]()
    if job.scale_to is not None:
        contradictions = scaling_problems(job.scale_to, scaled_keys(cfg), reading.given)
        problems += contradictions
        changes = [] if problems else scale_to(cfg, job.scale_to, ranks.world)
    of_processes = [] if problems else batch_problems(cfg, ranks.world, torch.cuda.is_available(), job.scale_to)
    if job.data_root is not None:
        set_data_root(cfg, job.data_root)
    warnings = [*check.departures(reading.findings), *warnings_of(cfg, ranks.world)]
    plan = Plan(cfg, converted, reading, changes, problems, warnings, ranks, of_processes)
    cfg.work_dir = str(job.work_dir or Path("work_dirs", "mmdet", job.config.stem, plan.folder_name(job)))
    return plan


def identity(job: Job, plan: Plan) -> dict[str, Any]:
    """Return what tells this run from others."""
    batch = plan.cfg.auto_scale_lr.base_batch_size
    settings = settings_of(plan.cfg, batch)
    return claim.identity(plan.converted, job.weights, job.seed, batch, plan.ranks.world, plan.changes, settings)
