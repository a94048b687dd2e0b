"""Another number of images in a step, and whether the images of a step are those that the rate was chosen for."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config

from transfer.finetuning.scaling import Change, fewer
from transfer.mmdet.check import BACKBONE, NECK, SHARED_HEAD

BATCH, BASE_BATCH = "train_dataloader.batch_size", "auto_scale_lr.base_batch_size"
RATE = "optim_wrapper.optimizer.lr"
# Counted in iterations: so many more of them see the same number of images in smaller steps.
ITERATIONS = ("train_cfg.max_iters", "train_cfg.val_interval", "default_hooks.checkpoint.interval")
OF_A_SCHEDULER = ("begin", "end", "milestones", "T_max", "warm_up_iters")


def scaled_keys(cfg: Config) -> list[str]:
    """Return the keys that --scale-to sets, in the order in which they are told."""
    schedulers = [
        f"param_scheduler.{number}.{name}"
        for number, entry in enumerate(cfg.get("param_scheduler") or ())
        for name in OF_A_SCHEDULER
        if name in entry
    ]
    return [BATCH, RATE, *(key for key in ITERATIONS if value_of(cfg, key) is not None), *schedulers]


def scale_to(cfg: Config, images: int, world: int) -> list[Change]:
    """Change the configuration, in place, to steps of `images` images: the same passes at the same schedule.

    The rule is that of transfer.finetuning.scaling. A step of another size is another step all the same, and its
    results do not belong into one mean with the configuration's own.

    Args:
        cfg: `auto_scale_lr.base_batch_size` says for how many images a step it is written.
        images: In a step, all processes together.
        world: Number of processes.
    """
    scale = images / cfg.auto_scale_lr.base_batch_size
    before = {key: value_of(cfg, key) for key in scaled_keys(cfg)}
    after: dict[str, Any] = {
        key: [fewer(step, scale) for step in value] if isinstance(value, (list, tuple)) else fewer(value, scale)
        for key, value in before.items()
    }
    for number, entry in enumerate(cfg.get("param_scheduler") or ()):
        if (
            entry.type == "LinearLR" and entry.get("end", 0) > 1
        ):  # which counts its first step: one more than its length
            after[f"param_scheduler.{number}.end"] = fewer(entry.end - 1, scale) + 1
    after |= {BATCH: images // world, RATE: before[RATE] * scale}
    cfg.merge_from_dict(after)
    cfg.auto_scale_lr.base_batch_size = images
    return [Change(key, before[key], after[key]) for key in before] if scale != 1 else []


def batch_problems(cfg: Config, world: int, gpus: bool, scale: int | None) -> list[str]:
    """Return a line where the images of a step are not those that the rate is for, or cannot be shared out.

    Args:
        cfg: After the scaling.
        world: Number of processes.
        gpus: Whether they have GPUs.
        scale: Of --scale-to.
    """
    lines, each = [], cfg.train_dataloader.batch_size
    base = cfg.auto_scale_lr.base_batch_size
    processes = f"{world} process{'es' if world > 1 else ''}"
    if scale is not None and scale % world:
        lines.append(f"--scale-to {scale} cannot be divided among {processes}")
    elif each * world != base:
        remedy = f"{BATCH}={base // world} by --cfg-options, or " if base % world == 0 else ""
        lines.append(
            f"{BATCH} is {each}, which on {processes} makes {each * world} images a step, and the rate is for {base} "
            f"({BASE_BATCH}); set {remedy}--scale-to {each * world}, which scales rate and schedule"
        )
    if world > 1 and not gpus:
        lines += [
            f"{key} is SyncBN, which torch has for GPUs only; on {processes} without GPUs set it to BN"
            for key in _norm_keys(cfg)
            if value_of(cfg, key) == "SyncBN"
        ]
    return lines


def warnings_of(cfg: Config, world: int) -> list[str]:
    """Return a line for each thing that runs otherwise than it looks."""
    lines, each = [], cfg.train_dataloader.batch_size
    for key in _norm_keys(cfg):
        norm = value_of(cfg, key)
        if norm == "BN" and world > 1:
            lines.append(
                f"{key} is BN: each of {world} processes normalises by its own {each} of {each * world} images; the "
                "protocol's SyncBN takes all of them"
            )
        elif norm in ("BN", "SyncBN") and each < 2:
            lines.append(f"{key} is {norm} and a process has {each} image a step: batch statistics of so few are noise")
    end = cfg.train_cfg.get("max_iters", 0)
    for number, entry in enumerate(cfg.get("param_scheduler") or ()):
        if late := [step for step in entry.get("milestones", ()) if step >= end]:
            lines.append(
                f"param_scheduler.{number}.milestones: the rate never drops at {', '.join(map(str, late))}; the run "
                f"ends at {end} iterations (train_cfg.max_iters)"
            )
    return lines


def value_of(cfg: Config, key: str) -> Any:
    """Return the value of a dotted key, None where there is none."""
    value: Any = cfg._cfg_dict
    for part in key.split("."):
        value = value[int(part)] if isinstance(value, (list, tuple)) else (value or {}).get(part)
    return value


def _norm_keys(cfg: Config) -> list[str]:
    keys = [f"{where}.norm_cfg.type" for where in (BACKBONE, SHARED_HEAD, NECK)]
    return [key for key in keys if value_of(cfg, key) is not None]
