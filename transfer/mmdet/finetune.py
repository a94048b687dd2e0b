"""Fine-tune and evaluate a detector in MMDetection, from converted weights or from scratch."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mmdet
import torch
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.device import get_device
from torch import distributed

import transfer.mmdet.heads
import transfer.mmdet.metrics  # noqa: F401  (both register what the configurations name)
from pretrain.console import UserError, first_few
from pretrain.files import read_json, require_free_space, write_json
from transfer.finetuning import check
from transfer.finetuning.claim import RUN, claim
from transfer.finetuning.job import announce, print_check
from transfer.finetuning.loss_curve import loss_curve
from transfer.finetuning.stream import told_by_worker
from transfer.mmdet import MMCV
from transfer.mmdet.data import check_files
from transfer.mmdet.draw import draw_samples
from transfer.mmdet.hooks import SeedEachStep, Watch
from transfer.mmdet.job import Job, Plan, identity, make_plan
from transfer.mmdet.launch import Ranks, chosen_launcher, process_group
from transfer.mmdet.runner import FinetuneRunner

KEPT_CHECKPOINTS = 3  # two are kept, and a third is written before one of them goes
DRAWN = "detections"  # folder below the work directory

register_all_modules(init_default_scope=False)


def finetune(job: Job) -> dict[str, Any]:
    """Train, evaluate, draw, and return what WORK_DIR/results.json holds; nothing where another process speaks.

    A finished run of the same settings is not repeated; an unfinished one goes on from its last checkpoint.

    Raises:
        UserError: Anything that can be known before the first iteration is checked before it.
    """
    launcher = chosen_launcher(job.launcher)
    with process_group(launcher) as ranks:
        plan = make_plan(job, ranks)
        check.refuse([*plan.problems, *([] if job.eval_only else plan.of_processes)])
        check_files(plan.cfg)
        newest = newest_checkpoint(plan.folder)
        begun = _agreed(newest, ranks, plan.folder)
        changed = []
        if not job.checkpoint:
            mine = identity(job, plan)
            changed = claim(plan.folder, mine, begun, ranks.first, job.eval_only, job.resume, "--work-dir")
        results = plan.folder / job.results_name
        drawn = len(list((plan.folder / DRAWN).glob("*.jpg")))
        if changed or job.eval_only or drawn < job.draw or not results.is_file():
            if ranks.first:
                announce(plan)
            _work(job, plan, launcher, job.checkpoint or newest)
        _wait(ranks)  # the results are there
        return dict(read_json(results)) if ranks.first else {}


def check_only(job: Job) -> None:
    """Print what the weights ask for beside what the configuration says, and the scaling; no data and no GPU needed.

    Raises:
        UserError: Something contradicts; all of it is named.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    plan = make_plan(job, Ranks(world=world))
    print_check(job, plan, plan.of_processes)


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint `iter_N.pth` of the largest N, or None. mmengine's own note of it can be half-written."""
    return max(folder.glob("iter_*.pth"), key=_iteration, default=None)


def _iteration(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("iter_"))


def _agreed(newest: Path | None, ranks: Ranks, folder: Path) -> bool:
    """Return whether there is a checkpoint; all processes have to see the same one."""
    seen: list[Any] = [newest.name if newest else "none"] * ranks.world
    if ranks.world > 1:
        distributed.all_gather_object(seen, seen[0])
    if len(set(seen)) > 1:
        raise UserError(
            f"{folder}: the processes see different checkpoints ({first_few(sorted(set(seen)))}); --work-dir must be "
            "one folder that all machines share"
        )
    return newest is not None


def _work(job: Job, plan: Plan, launcher: str, checkpoint: Path | None) -> None:
    """Train or evaluate in this process, and write what came out where it is the first."""
    cfg, folder, first = plan.cfg, plan.folder, plan.ranks.first
    folder.mkdir(parents=True, exist_ok=True)
    trained = checkpoint is not None and not job.checkpoint and _iteration(checkpoint) >= cfg.train_cfg.max_iters
    only_evaluate = job.eval_only or trained
    _prepare(cfg, job, plan, launcher, checkpoint, resume=not only_evaluate)
    with quiet(folder / "framework.log" if first else Path(os.devnull)):
        runner = FinetuneRunner.from_cfg(cfg)
        runner.start, runner.origin = plan.converted, str(job.weights)
        if first and not only_evaluate:
            _require_space(runner, cfg, folder)
        watch = Watch(int(cfg.model.roi_head.bbox_head.num_classes), keep=job.draw)
        runner.register_hook(SeedEachStep())
        runner.register_hook(watch)
        try:
            if only_evaluate:
                runner.val()
            else:
                runner.train()
        except UserError as error:
            raise UserError(told_by_worker(error)) from error
        except torch.cuda.OutOfMemoryError as error:
            images = cfg.train_dataloader.batch_size
            raise UserError(
                f"{folder}: the GPU's memory does not hold iteration {runner.iter} with {images} images a GPU; take "
                "fewer by train_dataloader.batch_size on more GPUs, or start a new run with --scale-to"
            ) from error
        finally:
            watch.close()
        if first:
            classes = runner.val_dataloader.dataset.metainfo["classes"]
            draw_samples(watch.samples, classes, folder / DRAWN, job.draw_threshold)
            write_json(folder / job.results_name, _results(job, plan, watch.metrics, runner))


def _prepare(cfg: Config, job: Job, plan: Plan, launcher: str, checkpoint: Path | None, resume: bool) -> None:
    """Write into the configuration what the Runner takes from it besides the recipe."""
    # mmengine shares loggers and visualizers between equal names: a second run would write into the first one's folder.
    cfg.experiment_name = f"{plan.folder.name}_{time.time_ns()}"
    if cfg.get("visualizer"):
        cfg.visualizer.name = cfg.experiment_name
    cfg.launcher = launcher
    cfg.randomness = {"seed": job.seed}
    if not torch.cuda.is_available():  # mmengine would name a GPU
        cfg.model_wrapper_cfg = {"type": "MMDistributedDataParallel", "device_ids": None, "broadcast_buffers": False}
    cfg.load_from = None if checkpoint is None else str(checkpoint)
    cfg.resume = checkpoint is not None and resume


def _require_space(runner: FinetuneRunner, cfg: Config, folder: Path) -> None:
    """A checkpoint holds the weights and as many numbers a weight as the optimizer keeps, all float32."""
    copies = 3 if cfg.optim_wrapper.optimizer.type.startswith("Adam") else 2
    size = 4 * copies * sum(tensor.numel() for tensor in runner.detector.state_dict().values())
    require_free_space(folder, KEPT_CHECKPOINTS * size, f"keeping {KEPT_CHECKPOINTS} checkpoints")


def _results(job: Job, plan: Plan, metrics: dict[str, float], runner: FinetuneRunner) -> dict[str, Any]:
    """Return the content of results.json; a figure that cannot be computed is None."""
    run = identity(job, plan) if job.checkpoint else read_json(plan.folder / RUN)
    groups: dict[str, dict[str, float | None]] = {"": {}, "class": {}, "class50": {}}
    for key, value in metrics.items():  # coco/AP, coco/class/bird, coco/class50/bird
        *_, group, name = ["", *key.split("/")[1:]]
        groups[group][name] = round(value, 4) if math.isfinite(value) else None
    data = plan.cfg.get("data_name", "the configuration's validation set")
    metric = "VOC 2007's 11-point AP" if any(key.startswith("voc/") for key in metrics) else "box AP"
    return {
        "what": f"Faster R-CNN fine-tuned in MMDetection, tested on {data}: {metric} in percent",
        "framework": f"MMDetection {mmdet.__version__}",
        "config": job.config.stem,
        "start": run["start"],
        "seed": job.seed,
        **groups[""],
        "per_class": groups["class"],
        "per_class_AP50": groups["class50"],
        "iterations": runner.iterations_done,
        "seconds": round(runner.seconds(), 1),
        "device": str(get_device()),
        "weights_sha256": run["weights_sha256"],
        "backbone_sha256": plan.converted.card.sha256 if plan.converted else "",
        **{key: run[key] for key in ("batch", "world_size", "scaling", "settings", "changed_on_resume")},
        "loss_curve": [] if job.checkpoint else loss_curve(plan.folder / "metrics.json"),
        "mmcv": MMCV,
    }


def _wait(ranks: Ranks) -> None:
    if ranks.world > 1:
        distributed.barrier()


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Send what the frameworks print and warn to `log`, appended; progress and errors stay on the terminal."""
    handler = logging.FileHandler(log)
    warned = logging.getLogger("py.warnings")
    warned.addHandler(handler)
    logging.captureWarnings(True)
    try:
        with log.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file):
            yield
    finally:
        logging.captureWarnings(False)
        warned.removeHandler(handler)
        handler.close()
