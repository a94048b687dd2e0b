"""What a fine-tuning command asks for, read and checked before anything is built."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.config import get_cfg

from transfer.d2.config import changed_values, read_config
from transfer.d2.data import check_classes, register
from transfer.d2.launch import Ranks, ranks_asked
from transfer.d2.scale import SCALED, batch_problems, batch_warnings, scale_to
from transfer.datasets import data_root
from transfer.files import read_converted
from transfer.finetuning import check, claim
from transfer.finetuning import job as common
from transfer.finetuning.scaling import Change, scaling_problems


@dataclass(frozen=True)
class Job(common.Job):
    """What the command line asks for.

    Attributes:
        output: Where everything goes; None for work_dirs/d2/<config>/<start>-seed<seed>, with -batch<N> where scaled.
        num_gpus: Processes on this machine, one a GPU; None for one, on a GPU where there is one.
        num_machines: Number of machines, each running the same command.
        machine_rank: This machine, counted from 0.
        dist_url: Where machine 0 listens, tcp://HOST:PORT; "auto" on a single machine.
        overrides: KEY VALUE KEY VALUE ...
    """

    output: Path | None = None
    num_gpus: int | None = None
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"
    overrides: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan(common.Plan):
    """A job as it will run; its config is frozen, with seed and output folder in it.

    Attributes:
        ranks: The processes.
    """

    ranks: Ranks


def make_plan(job: Job) -> Plan:
    """Read the config and the weights, compare them, and scale; no data set is read and nothing is built.

    Raises:
        UserError: A file cannot be read, a key is unknown, or an argument makes no sense. What contradicts the weights
            or the protocol is in the plan's problems.
    """
    job.refuse_nonsense()
    ranks = ranks_asked(job.num_gpus, job.num_machines, job.machine_rank, job.dist_url)
    converted = read_converted(job.weights, "detectron2") if job.weights else None
    head, source = (converted.head, converted.source) if converted else ("", "")
    reading = read_config(job.config, converted.card if converted else None, job.overrides, head, source)
    cfg, problems, changes = reading.cfg, list(reading.problems), list[Change]()
    if job.scale_to is not None:
        contradictions = scaling_problems(job.scale_to, SCALED, reading.given)
        problems += contradictions
        changes = [] if contradictions else scale_to(cfg, job.scale_to)
    problems += batch_problems(cfg, ranks.world)
    cfg.SEED = job.seed
    warnings = [*check.departures(reading.findings), *batch_warnings(cfg, ranks.world)]
    plan = Plan(cfg, converted, reading, changes, problems, warnings, ranks)
    cfg.OUTPUT_DIR = str(job.output or Path("work_dirs", "d2", job.config.stem, plan.folder_name(job)))
    cfg.freeze()
    return plan


def prepare(job: Job) -> Plan:
    """Make the plan, refuse one that has problems, and check that its data sets are there; build nothing.

    Raises:
        UserError: As `make_plan`; or for all the problems at once; or a data set is missing or damaged.
    """
    plan = make_plan(job)
    check.refuse(plan.problems)
    register((*plan.cfg.DATASETS.TRAIN, *plan.cfg.DATASETS.TEST), data_root(job.data_root))
    check_classes(plan.cfg)
    return plan


def identity(job: Job, plan: Plan) -> dict[str, Any]:
    """Return what tells this run from others; the settings are those that differ from Detectron2's defaults."""
    settings = changed_values(plan.cfg, get_cfg())
    batch, world = plan.cfg.SOLVER.IMS_PER_BATCH, plan.ranks.world
    return claim.identity(plan.converted, job.weights, job.seed, batch, world, plan.changes, settings)
