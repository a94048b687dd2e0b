"""Fine-tune and evaluate Faster or Mask R-CNN in Detectron2, from converted weights or from scratch."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import detectron2
import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from pretrain.files import read_json, write_json, write_text
from transfer.d2 import launch
from transfer.d2.config import default_value
from transfer.d2.draw import draw_detections
from transfer.d2.evaluation import evaluate
from transfer.d2.job import Job, Plan, identity, make_plan, prepare
from transfer.d2.trainer import Trainer
from transfer.d2.weights import load_detector
from transfer.finetuning.claim import RESULTS, RUN, claim
from transfer.finetuning.job import announce, print_check
from transfer.finetuning.loss_curve import loss_curve
from transfer.weights import load_exact

LOGGERS = ("detectron2", "fvcore", "py.warnings")
DRAWN = "detections"  # folder below the output


def finetune(job: Job) -> dict[str, Any]:
    """Train, evaluate, draw, and return what OUTPUT/results.json holds; nothing where another process speaks.

    A finished run of the same settings is not repeated; an unfinished one goes on from its last checkpoint.

    Raises:
        UserError: Anything that can be known before the first iteration is checked before it.
    """
    plan = prepare(job)
    launch.require_devices(plan.ranks, plan.cfg.MODEL.DEVICE)
    output = Path(plan.cfg.OUTPUT_DIR)
    changed = [] if job.checkpoint else _claim(job, plan)
    results = output / job.results_name
    drawn = len(list((output / DRAWN).glob("*.png")))
    if changed or job.eval_only or drawn < job.draw or not results.is_file():
        if plan.ranks.first:
            announce(plan)
        launch.run(_work, (job,), plan.ranks, plan.cfg.MODEL.DEVICE, output)
    return dict(read_json(results)) if plan.ranks.first else {}


def check_only(job: Job) -> None:
    """Print what the weights ask for beside what the config says, and the scaling; no data set and no GPU is needed.

    Raises:
        UserError: Something contradicts; all of it is named.
    """
    print_check(job, make_plan(job))


def _claim(job: Job, plan: Plan) -> list[str]:
    """Write down whose folder OUTPUT is, or check that it is this run's; see `transfer.finetuning.claim`."""
    output = Path(plan.cfg.OUTPUT_DIR)
    begun = (output / "last_checkpoint").is_file()
    first = plan.ranks.first
    mine = identity(job, plan)
    return claim(output, mine, begun, first, job.eval_only, job.resume, "--output", default_value)


def _work(job: Job) -> None:
    """Do the job in one process; `launch` starts one for each GPU."""
    plan = prepare(job)
    cfg, output, main = plan.cfg, Path(plan.cfg.OUTPUT_DIR), comm.is_main_process()
    if main:
        output.mkdir(parents=True, exist_ok=True)
        if not job.checkpoint:
            write_text(output / "config.yaml", cfg.dump())
    _log_to(output / "log.txt" if main else None)
    comm.synchronize()  # the folder is there
    seed_all_rng(job.seed)
    trainer = Trainer(cfg)
    if job.checkpoint:
        trainer.start_iter = load_detector(_bare(trainer.model), job.checkpoint)
    else:
        if plan.converted:
            number = load_exact(_bare(trainer.model), plan.converted.state_dict, "detectron2", str(job.weights))
            logging.getLogger("detectron2").info("%s: %d tensors loaded by exact names", job.weights, number)
        trainer.resume()
    if job.eval_only:
        trainer.results = evaluate(cfg, trainer.model)
    elif trainer.start_iter < trainer.max_iter or not (output / RESULTS).is_file():
        trainer.train()
    if main:
        if job.draw:
            draw_detections(cfg, _bare(trainer.model), job.draw, output / DRAWN, job.draw_threshold)
        if trainer.results:
            write_json(output / job.results_name, _results(job, plan, trainer))
    comm.synchronize()  # the results are there


def _results(job: Job, plan: Plan, trainer: Trainer) -> dict[str, Any]:
    """Return what results.json holds; a figure that cannot be computed is None."""

    def plain(value: float) -> float | None:
        return round(value, 4) if math.isfinite(value) else None

    cfg, boxes = plan.cfg, trainer.results["bbox"]
    run = identity(job, plan) if job.checkpoint else read_json(Path(cfg.OUTPUT_DIR, RUN))
    classes = {name.removeprefix("AP50-"): plain(value) for name, value in boxes.items() if name.startswith("AP50-")}
    return {
        "what": _description(cfg),
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
        "backbone_sha256": plan.converted.card.sha256 if plan.converted else "",
        "batch": run["batch"],
        "world_size": run["world_size"],
        "scaling": run["scaling"],
        "settings": run["settings"],
        "changed_on_resume": run["changed_on_resume"],
        "loss_curve": [] if job.checkpoint else loss_curve(Path(cfg.OUTPUT_DIR, "metrics.json")),
    }


def _description(cfg: CfgNode) -> str:
    """Return one line: detector, data sets, metric."""
    [test] = cfg.DATASETS.TEST
    detector = "Mask R-CNN" if cfg.MODEL.MASK_ON else "Faster R-CNN"
    metric = "VOC 2007's 11-point AP" if test.startswith("voc_2007") else "AP"
    return f"{detector} fine-tuned on {' + '.join(cfg.DATASETS.TRAIN)}, tested on {test}: {metric} in percent"


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
