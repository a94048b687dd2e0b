"""What a fine-tuning command asks for, read and checked before anything is built."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from pretrain.console import UserError
from transfer import check, claim
from transfer.convert import Converted
from transfer.d2.config import Reading, changed_values, read_config
from transfer.d2.data import check_classes, register
from transfer.d2.launch import Ranks, ranks_asked
from transfer.d2.scale import SCALED, batch_problems, batch_warnings, scale_to
from transfer.datasets import data_root
from transfer.files import read_converted
from transfer.scaling import Change, scaling_problems


@dataclass(frozen=True)
class Job:
    """What the command line asks for.

    Attributes:
        config: A YAML of configs/d2 or configs/quickstart.
        weights: OUT.pth of tools/convert_to_d2.py; None for a random start.
        data_root: Holds VOCdevkit and coco; None for $DATA_ROOT, $DETECTRON2_DATASETS or data/.
        output: Where everything goes; None for work_dirs/d2/<config>/<start>-seed<seed>, with -batch<N> where scaled.
        num_gpus: Processes on this machine, one a GPU; None for one, on a GPU where there is one.
        num_machines: Number of machines, each running the same command.
        machine_rank: This machine, counted from 0.
        dist_url: Where machine 0 listens, tcp://HOST:PORT; "auto" on a single machine.
        scale_to: Images in a step instead of the config's, the schedule scaled with them; None leaves it.
        seed: Of the detector's initial values, the order of the pictures and all sampling.
        resume: Go on although the config changed since (weights and seed must be the same).
        eval_only: Evaluate the last checkpoint in `output`, or `checkpoint`; train nothing.
        checkpoint: A detector to evaluate, any checkpoint of a run.
        draw: Number of test pictures to draw into `output`/detections.
        draw_threshold: Score from which a detection is drawn.
        overrides: KEY VALUE KEY VALUE ...
    """

    config: Path
    weights: Path | None = None
    data_root: Path | None = None
    output: Path | None = None
    num_gpus: int | None = None
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"
    scale_to: int | None = None
    seed: int = 0
    resume: bool = False
    eval_only: bool = False
    checkpoint: Path | None = None
    draw: int = 0
    draw_threshold: float = 0.5
    overrides: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """A job as it will run.

    Attributes:
        cfg: Frozen; scaled, with seed and output folder in it.
        converted: The weights; None for a random start.
        ranks: The processes.
        reading: The config as it was read, with what was found in it.
        changes: What --scale-to changed.
        problems: A line for each reason why the job cannot run.
    """

    cfg: CfgNode
    converted: Converted | None
    ranks: Ranks
    reading: Reading
    changes: list[Change]
    problems: list[str]

    @property
    def start(self) -> str:
        """What the run starts from: "random", or the method and branch of the weights, e.g. "automix teacher"."""
        return self.converted.start if self.converted else "random"

    @property
    def warnings(self) -> list[str]:
        """A line for each thing that runs, and is not the published protocol."""
        return [*check.departures(self.reading.findings), *batch_warnings(self.cfg, self.ranks.world)]


def make_plan(job: Job) -> Plan:
    """Read the config and the weights, compare them, and scale; no data set is read and nothing is built.

    Raises:
        UserError: A file cannot be read, a key is unknown, or an argument makes no sense. What contradicts the weights
            or the protocol is in the plan's problems.
    """
    if job.seed < 0:
        raise UserError(f"--seed {job.seed}: it must be 0 or more, so that the run can be repeated")
    if job.checkpoint and not (job.eval_only and job.checkpoint.is_file()):
        reason = "no such file" if job.eval_only else "--checkpoint goes with --eval-only; training resumes by itself"
        raise UserError(f"{job.checkpoint}: {reason}")
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
    plan = Plan(cfg, converted, ranks, reading, changes, problems)
    name = f"{plan.start.replace(' ', '-')}-seed{job.seed}" + (f"-batch{job.scale_to}" if changes else "")
    cfg.OUTPUT_DIR = str(job.output or Path("work_dirs", "d2", job.config.stem, name))
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
