"""Fine-tune and evaluate a detector in MMDetection, starting from converted weights."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmdet
import torch
from mmdet.datasets import CocoDataset
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import get_rank

import transfer.mmdet.heads
import transfer.mmdet.metrics  # noqa: F401  (both register what the configurations name)
from pretrain.console import UserError
from pretrain.files import read_json, require_free_space, sha256, write_json
from transfer.compat import trusted_checkpoints
from transfer.convert import Converted
from transfer.datasets import READ_WHOLE_BELOW, preflight
from transfer.files import read_converted
from transfer.mmdet import MMCV
from transfer.mmdet.config import apply_card, load_config, set_data_root
from transfer.mmdet.draw import draw_samples
from transfer.mmdet.runner import FinetuneRunner, WatchHook

KEPT_CHECKPOINTS = 3  # two are kept, and a third is written before one of them goes

STANDARD_FILES = {
    r"VOCdevkit/VOC(\d+)/ImageSets/Main/(\w+)\.txt": "voc_{}_{}",
    r"coco/annotations/instances_(train|val)2017\.json": "coco_2017_{}",
}

register_all_modules(init_default_scope=False)


@dataclass(frozen=True)
class Job:
    """What a fine-tuning is asked to do.

    Attributes:
        config: Configuration file.
        weights: Converted weights OUT.pth, with OUT.json beside it; None for a random start.
        data_root: Replaces the configuration's `data_root`.
        work_dir: Where everything is written; work_dirs/<name of the configuration> if None.
        seed: Of the new layers, of the order of the images, and of the sampled regions.
        resume: Go on from the last checkpoint even if the settings have changed since.
        eval_only: Evaluate the last checkpoint of the work directory, and train nothing.
        draw: Number of evaluated images to draw.
        draw_threshold: Score from which a detection is drawn.
        options: --cfg-options, "key=value" each.
        launcher: "none", "pytorch" (torchrun) or "slurm".
    """

    config: str
    weights: str | None = None
    data_root: str | None = None
    work_dir: str | None = None
    seed: int = 0
    resume: bool = False
    eval_only: bool = False
    draw: int = 0
    draw_threshold: float = 0.5
    options: Sequence[str] = ()
    launcher: str = "none"

    @property
    def folder(self) -> Path:
        """The work directory."""
        return Path(self.work_dir or f"work_dirs/{Path(self.config).stem}")


def finetune(job: Job) -> dict[str, Any]:
    """Train, evaluate, write `results.json` to the work directory, and return what it holds.

    An interrupted run goes on from its last checkpoint when it is asked for again with the same settings; a finished
    one returns its results.

    Raises:
        UserError: The configuration, the weights or the data do not fit; the work directory holds another run; the
            loss is not finite.
    """
    cfg = load_config(job.config, list(job.options))
    converted = read_converted(job.weights, "mmdet") if job.weights else None
    if job.data_root is not None:
        set_data_root(cfg, job.data_root)
    if converted is not None:
        apply_card(cfg, converted.card, converted.head)
    check_files(cfg)
    settings = _settings(job, cfg, converted)
    checkpoint = newest_checkpoint(job.folder)
    if results := _known_results(job, cfg, settings, checkpoint):
        return results
    trained = checkpoint is not None and _iteration(checkpoint) >= cfg.train_cfg.max_iters
    _prepare(cfg, job, checkpoint, resume=not (job.eval_only or trained))
    if get_rank() == 0:
        write_json(job.folder / "run.json", settings)
    with quiet(job.folder / "framework.log"), trusted_checkpoints(job.folder):
        runner = FinetuneRunner.from_cfg(cfg)
        runner.start_weights = converted.state_dict if converted else None
        copies = 3 if cfg.optim_wrapper.optimizer.type.startswith("Adam") else 2  # the weights, the optimizer's state
        size = 4 * copies * sum(parameter.numel() for parameter in runner.model.parameters())
        require_free_space(job.folder, KEPT_CHECKPOINTS * size, "the checkpoints of the fine-tuning")
        watch = WatchHook(int(cfg.model.roi_head.bbox_head.num_classes), keep=job.draw)
        runner.register_hook(watch)
        try:
            if job.eval_only or trained:
                runner.val()
            else:
                runner.train()
        finally:
            watch.close()
        results = _results(job, watch.metrics, settings, runner)
        if get_rank() == 0:
            classes = runner.val_dataloader.dataset.metainfo["classes"]
            draw_samples(watch.samples, classes, job.folder / "detections", job.draw_threshold)
            write_json(job.folder / "results.json", results)
    return results


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint `iter_N.pth` of the largest N, or None. mmengine's own note of it can be half-written."""
    return max(folder.glob("iter_*.pth"), key=_iteration, default=None)


def check_files(cfg: Config) -> None:
    """Check that the data of the configuration are there, before anything is built.

    Raises:
        UserError: A data set is missing or not whole; for VOC and COCO with the expected tree and the remedy.
    """
    root = Path(cfg.data_root)
    for part in (cfg.train_dataloader.dataset, cfg.val_dataloader.dataset):
        for dataset in part.get("datasets", [part]):
            for pattern, name in STANDARD_FILES.items():
                if match := re.fullmatch(pattern, dataset.ann_file):
                    preflight([name.format(*match.groups())], root)
            path = Path(dataset.get("data_root") or root) / dataset.ann_file
            if not path.is_file():
                raise UserError(f"{path}: no such annotation file; --data-root is {root}, it must hold the rest of it")
            if dataset.type == "CocoDataset" and path.stat().st_size < READ_WHOLE_BELOW:
                _check_categories(path, dataset.get("metainfo", {}).get("classes", CocoDataset.METAINFO["classes"]))


def _check_categories(path: Path, classes: Sequence[str]) -> None:
    """Refuse class names that the annotations do not have: mmdet would drop those objects without a word."""
    there = {category["name"] for category in read_json(path)["categories"]}
    if unknown := [name for name in classes if name not in there]:
        raise UserError(
            f"{path}: no category '{unknown[0]}' ({len(unknown)} of the configuration's {len(classes)} are not in it); "
            "give the data set's own names as dataset.metainfo.classes"
        )


def _iteration(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("iter_"))


def _settings(job: Job, cfg: Config, converted: Converted | None) -> dict[str, Any]:
    """Return what makes a run this run: another one may not go on from its checkpoints."""
    text = json.dumps(cfg._cfg_dict.to_dict(), sort_keys=True, default=str)
    return {
        "config": job.config,
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "seed": job.seed,
        "start": start_name(converted),
        "weights_sha256": sha256(job.weights) if job.weights else "",
    }


def _known_results(job: Job, cfg: Config, settings: dict[str, Any], checkpoint: Path | None) -> dict[str, Any] | None:
    """Return the results of a run that is finished; refuse a work directory with a run of other settings."""
    if checkpoint is None:
        if job.eval_only:
            raise UserError(f"{job.folder}: no checkpoint iter_*.pth to evaluate; run without --eval-only first")
        return None
    if not job.resume:
        before = read_json(job.folder / "run.json")
        if changed := [key for key in settings if before.get(key) != settings[key]]:
            raise UserError(
                f"{job.folder}: holds a run with another {', '.join(changed)}; choose another --work-dir, delete this "
                "one, or add --resume to go on from its last checkpoint with the new settings"
            )
    path = job.folder / "results.json"
    if job.eval_only or job.draw or not path.is_file():
        return None
    results: dict[str, Any] = read_json(path)
    return results if results["iterations"] >= cfg.train_cfg.max_iters else None


def _prepare(cfg: Config, job: Job, checkpoint: Path | None, resume: bool) -> None:
    """Write into the configuration what the Runner takes from it besides the recipe."""
    if job.launcher != "none" and not torch.cuda.is_available() and "SyncBN" in str(cfg.model):
        raise UserError("SyncBN over several processes needs GPUs; set the norm_cfg.type to BN, or use one process")
    cfg.work_dir = str(job.folder)
    cfg.experiment_name = f"{job.folder.name}_{time.time_ns()}"  # mmengine shares loggers between equal names
    cfg.launcher = job.launcher
    cfg.randomness = {"seed": job.seed}
    cfg.setdefault("env_cfg", {})["dist_cfg"] = {"backend": "nccl" if torch.cuda.is_available() else "gloo"}
    cfg.load_from = None if checkpoint is None else str(checkpoint)
    cfg.resume = checkpoint is not None and resume
    job.folder.mkdir(parents=True, exist_ok=True)


def start_name(converted: Converted | None) -> str:
    """Return what the run starts from: "random", or the method and branch of the weights, e.g. "automix teacher"."""
    if converted is None:
        return "random"
    branch = converted.card.branch if converted.card.branch in ("teacher", "student") else ""
    return f"{converted.card.method or Path(converted.source).stem} {branch}".strip()


def _results(job: Job, metrics: dict[str, float], settings: dict[str, Any], runner: FinetuneRunner) -> dict[str, Any]:
    """Return the content of results.json; a class without objects has AP null."""
    groups: dict[str, dict[str, float | None]] = {"": {}, "class": {}, "class50": {}}
    for key, value in metrics.items():  # coco/AP, coco/class/bird, coco/class50/bird
        *_, group, name = ["", *key.split("/")[1:]]
        groups[group][name] = round(value, 4) if math.isfinite(value) else None
    data = runner.cfg.get("data_name", "the configuration's validation set")
    return {
        "what": f"Faster R-CNN fine-tuned from {settings['start']}, tested on {data}; box AP in percent",
        "framework": "mmdetection",
        "config": Path(job.config).stem,
        **{key: settings[key] for key in ("start", "seed", "weights_sha256")},
        **groups[""],
        "per_class": groups["class"],
        "per_class_AP50": groups["class50"],
        "iterations": runner.iterations_done,
        "seconds": round(runner.seconds(), 1),
        "loss_curve": loss_curve(job.folder),
        "device": str(get_device()),
        "options": list(job.options),
        "versions": {"mmdet": mmdet.__version__, "mmcv": MMCV, "torch": torch.__version__},
    }


def loss_curve(folder: Path) -> list[list[float]]:
    """Return [iteration, total loss] pairs of metrics.json; what a resume did a second time counts once."""
    curve: dict[int, float] = {}
    for line in (folder / "metrics.json").read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # a line that a kill cut short
            entry = json.loads(line)
            curve[int(entry["iteration"])] = round(float(entry["total_loss"]), 4)
    return [[iteration, loss] for iteration, loss in sorted(curve.items())]


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Send what the frameworks print and warn to `log`, appended; progress and errors stay on the terminal."""
    log.parent.mkdir(parents=True, exist_ok=True)
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
