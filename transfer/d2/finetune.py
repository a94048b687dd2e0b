"""Fine-tune and evaluate Faster R-CNN in Detectron2, from converted weights or from scratch."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import detectron2
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import launch
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from pretrain.files import read_json, sha256, write_json, write_text
from transfer.convert import Converted
from transfer.d2.config import changed_values, default_value, head_of, load_config
from transfer.d2.data import check_classes, register
from transfer.d2.draw import draw_detections
from transfer.d2.evaluation import evaluate
from transfer.d2.trainer import Trainer, loss_curve
from transfer.d2.weights import load_exact
from transfer.datasets import data_root
from transfer.files import read_converted

LOGGERS = ("detectron2", "fvcore", "py.warnings")
DRAWN = "detections"  # folder below the output


@dataclass(frozen=True)
class Job:
    """What the command line asks for.

    Attributes:
        config: A YAML of configs/d2 or configs/quickstart.
        weights: OUT.pth of tools/convert_to_d2.py; None for a random start.
        data_root: Holds VOCdevkit and coco; None for $DATA_ROOT, $DETECTRON2_DATASETS or data/.
        output: Where everything goes; None for work_dirs/d2/<config>/<start>-seed<seed>.
        num_gpus: Processes, one a GPU; None for one GPU where there is one. On a CPU always one process.
        seed: Of the detector's initial values, the order of the pictures and all sampling.
        resume: Go on although the config changed since (weights and seed must be the same).
        eval_only: Evaluate the last checkpoint in `output`; train nothing.
        draw: Number of test pictures to draw into `output`/detections.
        draw_threshold: Score from which a detection is drawn.
        overrides: KEY VALUE KEY VALUE ...
    """

    config: Path
    weights: Path | None = None
    data_root: Path | None = None
    output: Path | None = None
    num_gpus: int | None = None
    seed: int = 0
    resume: bool = False
    eval_only: bool = False
    draw: int = 0
    draw_threshold: float = 0.5
    overrides: list[str] = field(default_factory=list)


def finetune(job: Job) -> dict[str, Any]:
    """Train, evaluate, draw, and return what OUTPUT/results.json holds.

    A finished run of the same settings is not repeated; an unfinished one goes on from its last checkpoint.

    Raises:
        UserError: Anything that can be known before the first iteration is checked before it.
    """
    cfg, converted = prepare(job)
    output = Path(cfg.OUTPUT_DIR)
    processes = _processes(job, cfg)
    _claim(job, cfg, converted)
    drawn = len(list((output / DRAWN).glob("*.png")))
    if job.eval_only or drawn < job.draw or not (output / "results.json").is_file():
        try:
            launch(_work, processes, dist_url="auto", args=(job,))
        except torch.multiprocessing.ProcessRaisedException as error:
            if told := re.search(r"pretrain\.console\.UserError: (.*)", str(error)):
                raise UserError(told[1]) from error
            raise
    results: dict[str, Any] = read_json(output / "results.json")
    return results


def prepare(job: Job) -> tuple[CfgNode, Converted | None]:
    """Read and check everything that the job names; build nothing.

    Raises:
        UserError: The config, the weights or a data set is missing or wrong.
    """
    converted = read_converted(job.weights, "detectron2") if job.weights else None
    card = converted.card if converted else BackboneCard(arch="", classes=())
    cfg = load_config(job.config, card, job.overrides, check_arch=converted is not None)
    if converted and converted.head != head_of(cfg):
        raise UserError(
            f"{job.weights}: converted with --head {converted.head}, but {job.config} builds a {head_of(cfg)} "
            f"detector; python tools/convert_to_d2.py {converted.source} OUT.pth --head {head_of(cfg)}"
        )
    if len(cfg.DATASETS.TEST) != 1:
        raise UserError(f"{job.config}: DATASETS.TEST names {len(cfg.DATASETS.TEST)} data sets; it must name one")
    if job.seed < 0:
        raise UserError(f"--seed {job.seed}: it must be 0 or more, so that the run can be repeated")
    cfg.SEED = job.seed
    default = Path("work_dirs", "d2", job.config.stem, f"{start_name(converted).replace(' ', '-')}-seed{job.seed}")
    cfg.OUTPUT_DIR = str(job.output or default)
    cfg.freeze()
    register((*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST), data_root(job.data_root))
    check_classes(cfg)
    return cfg, converted


def start_name(converted: Converted | None) -> str:
    """Return what the run starts from: "random", or the method and branch of the weights, e.g. "automix teacher"."""
    if converted is None:
        return "random"
    branch = converted.card.branch if converted.card.branch in ("teacher", "student") else ""
    return f"{converted.card.method or Path(converted.source).stem} {branch}".strip()


def _processes(job: Job, cfg: CfgNode) -> int:
    """Return the number of processes, and refuse what cannot be divided among them."""
    if cfg.MODEL.DEVICE == "cpu":
        if (job.num_gpus or 0) > 1:
            raise UserError(f"--num-gpus {job.num_gpus}: torch sees no GPU here; leave it out to train on the CPU")
        return 1
    number = job.num_gpus or 1
    if number > torch.cuda.device_count():
        raise UserError(f"--num-gpus {number}: torch sees {torch.cuda.device_count()} here")
    if cfg.SOLVER.IMS_PER_BATCH % number:
        raise UserError(f"SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH} cannot be divided among {number} GPUs")
    return number


def _claim(job: Job, cfg: CfgNode, converted: Converted | None) -> None:
    """Write down whose folder OUTPUT is, or check that it is this run's.

    Raises:
        UserError: It holds a run of other settings, or --eval-only finds no checkpoint.
    """
    output = Path(cfg.OUTPUT_DIR)
    mine: dict[str, Any] = {
        "start": start_name(converted),
        "weights_sha256": sha256(job.weights) if job.weights else "",
        "seed": job.seed,
        "settings": changed_values(cfg, get_cfg()),
        "changed_on_resume": [],
    }
    begun = (output / "last_checkpoint").is_file()
    if job.eval_only and not begun:
        raise UserError(f"{output}: no checkpoint to evaluate; train first, with the same command without --eval-only")
    if begun:
        theirs = read_json(output / "run.json")
        for key in ("start", "weights_sha256", "seed"):
            if mine[key] != theirs.get(key):
                before = theirs.get(key)
                raise UserError(
                    f"{output}: holds a run of another {key} ({before}, now {mine[key]}); choose an --output"
                )
        old, new = theirs.get("settings", {}), mine["settings"]
        changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        if changed and not job.resume:
            key = changed[0]
            before, now = (values.get(key, default_value(key)) for values in (old, new))
            raise UserError(
                f"{output}: holds a run with another {key} ({before}, now {now}); "
                "choose another --output, or go on with the new setting by --resume"
            )
        if changed:
            (output / "results.json").unlink(missing_ok=True)
        mine["changed_on_resume"] = theirs.get("changed_on_resume", []) + changed
    write_json(output / "run.json", mine)


def _work(job: Job) -> None:
    """Do the job in one process; `launch` starts one for each GPU."""
    cfg, converted = prepare(job)
    output = Path(cfg.OUTPUT_DIR)
    _log_to(output / "log.txt" if comm.is_main_process() else None)
    if comm.is_main_process():
        write_text(output / "config.yaml", cfg.dump())
    seed_all_rng(job.seed)
    trainer = Trainer(cfg)
    if converted:
        number = load_exact(_bare(trainer.model), converted.state_dict, str(job.weights))
        logging.getLogger("detectron2").info("%s: %d tensors loaded by exact names", job.weights, number)
    trainer.resume()
    if job.eval_only:
        trainer.results = evaluate(cfg, trainer.model)
    elif trainer.start_iter < trainer.max_iter or not (output / "results.json").is_file():
        trainer.train()
    if comm.is_main_process():
        if job.draw:
            draw_detections(cfg, _bare(trainer.model), job.draw, output / DRAWN, job.draw_threshold)
        if trainer.results:
            write_json(output / "results.json", _results(job, cfg, converted, trainer))


def _results(job: Job, cfg: CfgNode, converted: Converted | None, trainer: Trainer) -> dict[str, Any]:
    """Return what results.json holds; a figure that cannot be computed is None."""

    def plain(value: float) -> float | None:
        return round(value, 4) if math.isfinite(value) else None

    [test] = cfg.DATASETS.TEST
    boxes = trainer.results["bbox"]
    metric = "VOC 2007's 11-point AP" if test.startswith("voc_2007") else "AP"
    run = read_json(Path(cfg.OUTPUT_DIR, "run.json"))
    classes = {name.removeprefix("AP50-"): plain(value) for name, value in boxes.items() if name.startswith("AP50-")}
    return {
        "what": f"Faster R-CNN fine-tuned on {' + '.join(cfg.DATASETS.TRAIN)}, tested on {test}: {metric} in percent",
        "framework": f"Detectron2 {detectron2.__version__}",
        "config": job.config.stem,
        "start": run["start"],
        "seed": job.seed,
        "AP": plain(boxes["AP"]),
        "AP50": plain(boxes["AP50"]),
        "AP75": plain(boxes["AP75"]),
        "per_class_AP50": classes,
        "mask_AP": plain(trainer.results["segm"]["AP"]) if "segm" in trainer.results else None,
        "iterations": trainer.start_iter if job.eval_only else trainer.max_iter,
        "seconds": round(trainer.progress.seconds, 2),
        "device": cfg.MODEL.DEVICE,
        "weights_sha256": run["weights_sha256"],
        "backbone_sha256": converted.card.sha256 if converted else "",
        "settings": run["settings"],
        "changed_on_resume": run["changed_on_resume"],
        "loss_curve": loss_curve(Path(cfg.OUTPUT_DIR, "metrics.json")),
    }


def _bare(model: Any) -> torch.nn.Module:
    """Return the detector without its DistributedDataParallel wrapper."""
    bare: torch.nn.Module = getattr(model, "module", model)
    return bare


def _log_to(path: Path | None) -> None:
    """Send the frameworks' logs and warnings to a file (None: nowhere), and keep them off the terminal."""
    logging.captureWarnings(True)
    handler: logging.Handler = logging.FileHandler(path) if path else logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
