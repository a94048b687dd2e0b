"""Another number of images in a step: the linear scaling rule, stated, and what small batches do to BatchNorm."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode

from transfer.d2.config import value_of
from transfer.finetuning.scaling import Change, fewer

BATCH, RATE = "SOLVER.IMS_PER_BATCH", "SOLVER.BASE_LR"
STEPS = "SOLVER.STEPS"
# Counted in iterations: so many more of them see the same number of images in smaller steps.
ITERATIONS = ("SOLVER.MAX_ITER", "SOLVER.WARMUP_ITERS", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD")
PRECISE_PASSES = "TEST.PRECISE_BN.NUM_ITER"
SCALED = (BATCH, RATE, STEPS, *ITERATIONS, PRECISE_PASSES)


def scale_to(cfg: CfgNode, images: int) -> list[Change]:
    """Change the config, in place, to steps of `images` images: the same passes over the data at the same schedule.

    The learning rate grows with the batch, the iterations shrink (Goyal et al., arXiv:1706.02677), rounded as in
    Detectron2's DefaultTrainer.auto_scale_workers; what is not 0 stays at 1 at least. A step of another size is
    another step all the same, and its results do not belong into one mean with the config's own.

    Returns:
        Every setting that the rule speaks of, in the order in which they are told.
    """
    scale = images / cfg.SOLVER.IMS_PER_BATCH
    if scale == 1:
        return []

    before = {key: value_of(cfg, key) for key in SCALED}
    after: dict[str, Any] = {key: fewer(before[key], scale) for key in (*ITERATIONS, PRECISE_PASSES)}
    after |= {BATCH: images, RATE: before[RATE] * scale, STEPS: tuple(fewer(step, scale) for step in before[STEPS])}
    for key, value in after.items():
        cfg.merge_from_list([key, value])
    return [Change(key, before[key], after[key]) for key in SCALED]


def batch_problems(cfg: CfgNode, ranks: int) -> list[str]:
    """Return a line where the images of a step cannot be dealt out to the ranks, or the ranks cannot share a norm."""
    images, lines = cfg.SOLVER.IMS_PER_BATCH, []
    if images % ranks:
        lines.append(f"{BATCH} is {images}, which cannot be divided among {ranks} processes")
    if ranks > 1 and cfg.MODEL.DEVICE == "cpu":
        synchronised = [key for key in _norm_keys(cfg) if value_of(cfg, key) in ("SyncBN", "nnSyncBN")]
        lines += [
            f"{key} is {value_of(cfg, key)}, which torch has for GPUs only; on {ranks} CPU processes set {key} "
            "naiveSyncBN"
            for key in synchronised
        ]
    return lines


def batch_warnings(cfg: CfgNode, ranks: int) -> list[str]:
    """Return a line for each norm whose statistics in training rest on fewer images than the protocol's."""
    each, lines = cfg.SOLVER.IMS_PER_BATCH // ranks, []
    for key in _norm_keys(cfg):
        norm = value_of(cfg, key)
        if norm == "BN" and ranks > 1:
            lines.append(
                f"{key} is BN: each of {ranks} processes normalises by its own {each} of "
                f"{cfg.SOLVER.IMS_PER_BATCH} images; the protocol's SyncBN takes all of them"
            )
        elif norm in ("BN", "SyncBN", "nnSyncBN", "naiveSyncBN") and each < 2:
            lines.append(f"{key} is {norm} and a process has {each} image a step: batch statistics of so few are noise")
    return lines


def _norm_keys(cfg: CfgNode) -> list[str]:
    return ["MODEL.RESNETS.NORM", *(["MODEL.FPN.NORM"] if "fpn" in cfg.MODEL.BACKBONE.NAME else [])]
