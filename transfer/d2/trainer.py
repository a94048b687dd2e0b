"""Detectron2's DefaultTrainer, made to resume exactly, to stop on a loss that is no number, and to show progress."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, hooks
from detectron2.solver.build import get_default_optimizer_params
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter, JSONWriter
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn
from torch.optim import AdamW, Optimizer

from pretrain.console import UserError, first_few
from pretrain.files import require_free_space
from transfer.compat import ddp_without_gpus
from transfer.d2.data import train_stream
from transfer.d2.evaluation import evaluate
from transfer.d2.hooks import EvaluateWhenDone, PreciseStatistics, Progress, SafeCheckpointer, SeedEachStep
from transfer.finetuning.loss_curve import forget_after, log_period
from transfer.finetuning.stream import Stream

KEPT_CHECKPOINTS = 2  # the last ones; model_final.pth comes on top


class Trainer(DefaultTrainer):
    """One fine-tuning run. The state after an iteration depends on the config, its seed and the weights alone.

    Attributes:
        progress: Counts the seconds spent in training steps, earlier sittings included.
        results: What the last evaluation returned.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.results: dict[str, dict[str, float]] = {}
        with ddp_without_gpus(cfg.MODEL.DEVICE == "cpu"):
            super().__init__(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        """Return Detectron2's own SGD, or AdamW where SOLVER.OPTIMIZER asks for it; norms are not decayed by AdamW."""
        if cfg.SOLVER.OPTIMIZER == "SGD":
            return super().build_optimizer(cfg, model)
        groups = get_default_optimizer_params(model, weight_decay_norm=0.0)
        return AdamW(groups, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Stream:
        return train_stream(cfg)

    def build_hooks(self) -> list[HookBase | None]:
        """Return the hooks in the order in which they run; the checkpoint comes after whatever changes the model."""
        cfg, main = self.cfg, comm.is_main_process()
        self.checkpointer = SafeCheckpointer(self.model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        precise = cfg.TEST.PRECISE_BN.ENABLED and bool(get_bn_modules(self.model))
        passes = cfg.TEST.PRECISE_BN.NUM_ITER if precise else 0
        self.progress = Progress("fine-tuning in Detectron2", passes, cfg.TEST.EVAL_PERIOD)
        statistics = None
        if precise:
            first = replace(self._trainer.data_loader, start=0, workers=0)  # read in this process
            advance = self._advance
            statistics = PreciseStatistics(cfg.TEST.EVAL_PERIOD, self.model, first, passes, advance=advance)
        period = log_period(self.max_iter)
        metrics = str(Path(cfg.OUTPUT_DIR, "metrics.json"))
        checkpoints = hooks.PeriodicCheckpointer(
            self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, max_to_keep=KEPT_CHECKPOINTS
        )
        writers = [CommonMetricPrinter(self.max_iter), JSONWriter(metrics, window_size=period)] if main else []
        return [
            SeedEachStep(cfg.SEED),
            self.progress,
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            statistics,
            checkpoints if main else None,
            EvaluateWhenDone(cfg.TEST.EVAL_PERIOD, self._evaluate),
            hooks.PeriodicWriter(writers, period=period) if main else None,
        ]

    def resume(self) -> None:
        """Go on from the last checkpoint in OUTPUT_DIR, as if the run had never stopped.

        Raises:
            UserError: The machines of the run do not see the same checkpoint.
        """
        self.resume_or_load(resume=True)
        if len(starts := set(comm.all_gather(self.start_iter))) > 1:
            raise UserError(
                f"{self.cfg.OUTPUT_DIR}: the machines would begin at different iterations "
                f"({first_few(sorted(starts))}); --output must be one folder that all of them share"
            )
        self._trainer.data_loader.start = self.start_iter
        if comm.is_main_process():
            forget_after(Path(self.cfg.OUTPUT_DIR, "metrics.json"), self.start_iter)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the run with that of the optimizer, which v0.6 leaves out: its resume loses momentum."""
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._trainer.load_state_dict(state["_trainer"])

    def train(self) -> None:
        """Train to the end and evaluate.

        Raises:
            UserError: The loss is no longer a finite number, the GPU's memory does not suffice, or the disk cannot
                hold the checkpoints.
        """
        if comm.is_main_process():
            self._require_space()
        try:
            super().train()
        except FloatingPointError as error:
            solver = self.cfg.SOLVER
            raise UserError(
                f"{self.cfg.OUTPUT_DIR}: the loss became infinite or NaN at iteration {self.iter}; lower "
                f"SOLVER.BASE_LR (now {solver.BASE_LR}) or lengthen SOLVER.WARMUP_ITERS (now {solver.WARMUP_ITERS}) "
                "and start again in an empty --output"
            ) from error
        except torch.cuda.OutOfMemoryError as error:
            images = self.cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
            raise UserError(
                f"{self.cfg.OUTPUT_DIR}: the GPU's memory does not hold iteration {self.iter} with {images} images a "
                "GPU; the same command with more --num-gpus goes on, a new run can take fewer images by --scale-to"
            ) from error

    def _evaluate(self) -> dict[str, dict[str, float]]:
        self.results = evaluate(self.cfg, self.model, shown=not self.progress.shown)
        return self.results

    def _advance(self, *args: Any, **kwargs: Any) -> None:
        self.progress.advance(*args, **kwargs)

    def _require_space(self) -> None:
        """A checkpoint holds the weights and as many numbers a weight as the optimizer keeps, all float32."""
        copies = 3 if self.cfg.SOLVER.OPTIMIZER == "ADAMW" else 2
        one = 4 * copies * sum(tensor.numel() for tensor in self.model.state_dict().values())
        periodic = (self.max_iter - self.start_iter) // self.cfg.SOLVER.CHECKPOINT_PERIOD
        number = min(periodic, KEPT_CHECKPOINTS + 1) + 1  # the oldest goes after the newest is written
        require_free_space(self.cfg.OUTPUT_DIR, one * number, f"keeping {number} checkpoints")
