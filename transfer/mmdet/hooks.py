"""What is added to mmengine's Runner: seeds of a step, progress, and a stop at a loss that is no number."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import Tensor

from pretrain.console import UserError, progress
from transfer.finetuning.loss_curve import forget_after, log_period
from transfer.finetuning.stream import seed_step
from transfer.mmdet.data import check_classes


class SeedEachStep(Hook):
    """Seed each step from (seed, rank, iteration), so that a resumed run samples the same regions on every rank."""

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed torch, NumPy and Python."""
        seed_step(runner.seed, get_rank(), runner.iter)


class Watch(Hook):
    """Shows progress, stops on a loss that is not finite, and keeps the last evaluation.

    The losses go to `metrics.json` in the work directory, one JSON object a line, in Detectron2's form.

    Attributes:
        metrics: What the last evaluation measured, {"coco/AP": ...}; empty before the first.
        samples: The first `keep` images of this process's evaluation with their detections and true boxes.
    """

    priority = "LOW"  # after the losses are known, before the checkpoint is written

    def __init__(self, num_classes: int, keep: int = 0) -> None:
        self.num_classes = num_classes
        self.keep = keep
        self.metrics: dict[str, float] = {}
        self.samples: list[Any] = []
        self._stack = ExitStack()
        self._advance: Callable[..., None] | None = None

    def close(self) -> None:
        """End the bar that is shown."""
        self._stack.close()
        self._advance = None

    def before_run(self, runner: Runner) -> None:
        """Check that the data have the classes that the box head has."""
        for loop in (runner._train_loop, runner._val_loop):
            if isinstance(loop, BaseLoop):
                check_classes(loop.dataloader.dataset, self.num_classes)

    def before_train(self, runner: Runner) -> None:
        """Forget the losses that are about to be written again."""
        if get_rank() == 0:
            forget_after(self._log(runner), runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Leave out mmengine's buffers for its log: they are pickled objects, which torch refuses to load."""
        checkpoint["message_hub"] = {"log_scalars": {}, "runtime_info": {}, "resumed_keys": {}}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Advance the bar, and stop if the loss is not finite (mmengine has read it from the device already)."""
        self._open("fine-tuning in MMDetection", runner.max_iters, runner.iter)
        assert self._advance is not None
        losses = {name: float(value.detach()) for name, value in (outputs or {}).items()}
        if bad := [f"{name} = {value}" for name, value in losses.items() if not math.isfinite(value)]:
            self.close()
            raise UserError(
                f"{runner.work_dir}: the loss became infinite or NaN at iteration {runner.iter} ({', '.join(bad)}); "
                f"lower optim_wrapper.optimizer.lr (now {_rate(runner):g}) or lengthen the warm-up, and start again in "
                "an empty --work-dir"
            )
        last = runner.iter + 1 == runner.max_iters
        if get_rank() == 0 and (last or runner.iter % log_period(runner.max_iters) == 0):
            line = {"iteration": runner.iter, "lr": _rate(runner), "total_loss": losses["loss"], **losses}
            with self._log(runner).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        self._advance(1, f"loss {losses['loss']:.3f}")

    def before_val(self, runner: Runner) -> None:
        """Change from the bar of the training to that of the evaluation."""
        self.close()
        self.samples = []

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Advance the bar and keep the first few images."""
        self._open("evaluating", len(runner.val_dataloader), batch_idx)
        assert self._advance is not None
        self.samples += list(outputs or [])[: self.keep - len(self.samples)]
        self._advance(1)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Keep what was measured."""
        self.metrics = dict(metrics or {})
        self.close()

    def _open(self, description: str, total: int, done: int) -> None:
        if self._advance is None:
            self._advance = self._stack.enter_context(progress(description, total, done, visible=get_rank() == 0))

    @staticmethod
    def _log(runner: Runner) -> Path:
        return Path(runner.work_dir) / "metrics.json"


def _rate(runner: Runner) -> float:
    return float(runner.optim_wrapper.get_lr()["lr"][0])
