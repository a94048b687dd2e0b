"""mmengine's Runner with whole files, exact weights, an exact resume, and a quiet terminal."""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn

from pretrain.console import UserError, progress
from pretrain.files import atomic_path

LOG_EVERY = 10  # iterations
COUNTER = "num_batches_tracked"  # a BatchNorm's counter: no effect on what the network computes


class FinetuneRunner(Runner):
    """The Runner of a fine-tuning.

    Attributes:
        start_weights: {exact parameter name: tensor} to start from, or None for random weights.
        checkpoint_meta: What the loaded checkpoint says of itself.
        resumed_rng: The random states of the checkpoint that the run goes on from, until they have been put back.
    """

    _has_loaded: bool
    start_weights: Mapping[str, Tensor] | None = None
    checkpoint_meta: Mapping[str, Any] = MappingProxyType({})
    resumed_rng: dict[str, Any] | None = None
    started: float = 0.0

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build mmengine's logger without its handler for the terminal: it writes to the log file only."""
        logger = super().build_logger(*args, **kwargs)
        logger.handlers = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
        return logger

    def load_or_resume(self) -> None:
        """Go on from a checkpoint where the configuration names one, else load `start_weights`, all of them."""
        super().load_or_resume()
        if not self._has_loaded and self.start_weights is not None:
            model = self.model.module if is_model_wrapper(self.model) else self.model
            load_exactly(model, self.start_weights)
            self._has_loaded = True
        self.started = time.monotonic()

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", **settings: Any) -> dict[str, Any]:
        """Load a whole detector, strictly, and note how far its run had come."""
        try:
            checkpoint = super().load_checkpoint(filename, map_location, **{**settings, "strict": True})
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{filename}: not a checkpoint of this detector ({reason}); use another --work-dir"
            ) from error
        self.checkpoint_meta = checkpoint["meta"]
        return checkpoint

    def resume(self, *args: Any, **settings: Any) -> None:
        """Restore mmengine's state, and have the random states put back, which mmengine does not keep."""
        super().resume(*args, **settings)
        self.resumed_rng = self.checkpoint_meta["rng"]

    @property
    def iterations_done(self) -> int:
        """Iterations trained, all sittings together."""
        trained = isinstance(self._train_loop, BaseLoop)
        return int(self.iter if trained else self.checkpoint_meta.get("iter", 0))

    def seconds(self) -> float:
        """Return the training and evaluation time so far, all sittings together, seconds."""
        return float(self.checkpoint_meta.get("seconds", 0.0)) + time.monotonic() - self.started

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, meta: Any = None, **kwargs: Any) -> None:
        """Write a checkpoint so that the file is there whole or not at all, with the random states in it."""
        if get_rank() != 0:
            return
        meta = {**(meta or {}), "rng": random_states(), "seconds": self.seconds()}
        with atomic_path(Path(out_dir) / filename) as temporary:
            super().save_checkpoint(out_dir, temporary.name, *args, meta=meta, **kwargs)


def load_exactly(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load converted weights by their exact names, and make sure that they are the whole backbone.

    Raises:
        UserError: A name or a shape is not the detector's, or the detector's backbone has tensors beyond them.
    """
    own = model.state_dict()
    for name, tensor in weights.items():
        if name not in own or own[name].shape != tensor.shape:
            what = f"{tuple(own[name].shape)} there" if name in own else "not in it"
            raise UserError(f"weights: {name} {tuple(tensor.shape)} does not fit the detector ({what}); convert again")
    stages = ("backbone.", "roi_head.shared_head.layer4.")
    missing = [n for n in own if n.startswith(stages) and n not in weights and not n.endswith(COUNTER)]
    if missing:
        raise UserError(f"weights: {len(missing)} tensors of the backbone would stay random ({missing[0]}, ...)")
    model.load_state_dict(dict(weights), strict=False)


def random_states() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state(), "cuda": cuda}


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Set the generators to what `random_states` returned."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"]:
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])


class WatchHook(Hook):
    """Shows progress, stops on a loss that is not finite, and keeps the last evaluation.

    The losses go to `metrics.json` in the work directory, one JSON object a line, in Detectron2's form.

    Attributes:
        metrics: What the last evaluation measured, {"coco/AP": ...}; empty before the first.
        samples: The first `keep` images of the evaluation with their detections and true boxes.
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
            dataset = getattr(getattr(loop, "dataloader", None), "dataset", None)
            if dataset is not None:
                check_classes(dataset, self.num_classes)

    def before_train_iter(self, runner: FinetuneRunner, batch_idx: int, data_batch: Any = None) -> None:
        """Put the random states back that the checkpoint kept, once its data have been skipped."""
        if runner.resumed_rng is not None and get_world_size() == 1:
            restore_random_states(runner.resumed_rng)
        runner.resumed_rng = None

    def after_train_iter(
        self, runner: FinetuneRunner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Tensor] | None = None
    ) -> None:
        """Advance the bar, and stop if the loss is not finite (mmengine has read it from the device already)."""
        self._open("fine-tuning in MMDetection", runner.max_iters, runner.iter)
        assert self._advance is not None
        done = runner.iter + 1
        losses = {name: float(value.detach()) for name, value in (outputs or {}).items()}
        if bad := [f"{name} = {value}" for name, value in losses.items() if not math.isfinite(value)]:
            self.close()
            raise UserError(
                f"iteration {done}: the loss is not finite ({', '.join(bad)}); try a lower rate, e.g. --cfg-options "
                f"optim_wrapper.optimizer.lr={_rate(runner) / 4:.1g}, and another --work-dir"
            )
        note = f"loss {losses.get('loss', math.nan):.3f}"
        if done % LOG_EVERY == 0 or done == runner.max_iters:
            self._log_losses(runner, done, losses)
        self._advance(1, note)

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
            shown = progress(description, total, done) if get_rank() == 0 else _silent()
            self._advance = self._stack.enter_context(shown)

    def _log_losses(self, runner: FinetuneRunner, done: int, losses: dict[str, float]) -> None:
        if get_rank() != 0:
            return
        line = {"iteration": done, "lr": _rate(runner), "total_loss": losses.pop("loss", None), **losses}
        with (Path(runner.work_dir) / "metrics.json").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@contextmanager
def _silent() -> Iterator[Callable[..., None]]:
    """Stand in for `progress` on all ranks but the first."""
    yield lambda steps=1, note="": None


def _rate(runner: Runner) -> float:
    return float(runner.optim_wrapper.get_lr()["lr"][0])


def check_classes(dataset: Any, num_classes: int) -> None:
    """Refuse data whose classes are not those of the box head; mmdet would train on the boxes it recognises.

    Raises:
        UserError: The number of classes differs, or a class name does not occur in the annotations.
    """
    for part in getattr(dataset, "datasets", [dataset]):
        classes = part.metainfo["classes"]
        if len(classes) != num_classes:
            raise UserError(
                f"{part.ann_file}: {len(classes)} classes, model.roi_head.bbox_head.num_classes is {num_classes}"
            )
        known = getattr(part, "cat_ids", classes)  # CocoDataset: the categories that bear the classes' names
        if len(known) != len(classes):
            raise UserError(
                f"{part.ann_file}: only {len(known)} of the configuration's {len(classes)} class names occur in it; "
                "give the data set's own names as metainfo.classes"
            )
