"""What is added to Detectron2's trainer: seeds of a step, progress, precise BatchNorm statistics, safe checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase, hooks
from detectron2.utils import comm
from fvcore.nn.precise_bn import get_bn_modules
from torch import Tensor, distributed, nn

from pretrain.console import progress
from pretrain.files import atomic_path, write_text
from transfer.finetuning.stream import seed_step


class SeedEachStep(HookBase):
    """Seed each step from (seed, rank, iteration), so that a resumed run samples the same proposals."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def before_step(self) -> None:
        seed_step(self._seed, comm.get_rank(), self.trainer.iter)


class Progress(HookBase):
    """A bar over the iterations and the passes of precise BatchNorm; counts the seconds of all sittings together."""

    def __init__(self, description: str, precise_passes: int, period: int) -> None:
        """Set up, shown on rank 0 only.

        Args:
            description: Stands before the bar.
            precise_passes: Passes of one round of precise BatchNorm, 0 where it is off.
            period: Iterations between rounds, 0 for one round at the end.
        """
        self.seconds = 0.0
        self.shown = False
        self._description = description
        self._passes, self._period = precise_passes, period
        self._context: AbstractContextManager[Callable[..., None]] = nullcontext(_no_progress)
        self.advance: Callable[..., None] = _no_progress

    def before_train(self) -> None:
        start, end = self.trainer.start_iter, self.trainer.max_iter
        if comm.is_main_process() and start < end:
            total = end + self._passes * self._rounds(end)
            self._context = progress(self._description, total, start + self._passes * self._rounds(start, end))
            self.shown = True
        self.advance = self._context.__enter__()

    def before_step(self) -> None:
        self._began = time.perf_counter()

    def after_step(self) -> None:
        self.seconds += time.perf_counter() - self._began
        note = ""
        if comm.is_main_process():
            note = f"loss {self.trainer.storage.history('total_loss').latest():.2f}"
        self.advance(1, note=note)

    def after_train(self) -> None:
        self.shown = False
        self._context.__exit__(None, None, None)
        self.advance = _no_progress

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.seconds = state["seconds"]

    def _rounds(self, iteration: int, end: int | None = None) -> int:
        """Count the rounds of precise BatchNorm up to `iteration`."""
        if not self._period:
            return int(end is None or iteration >= end)
        rounds = iteration // self._period
        return rounds + int(end is None and iteration % self._period != 0)


class PreciseStatistics(hooks.PreciseBN):
    """Precise BatchNorm statistics from the first pictures of the stream, the same on every rank.

    Detectron2's hook goes on through its stream from round to round, which a resume would change, and leaves each
    rank its own statistics (detectron2 #5398), of which only rank 0's are saved.
    """

    def __init__(self, *args: Any, advance: Callable[..., None]) -> None:
        super().__init__(*args)
        self._advance = advance

    def update_stats(self) -> None:
        self._data_iter = (self._counted(batch) for batch in self._data_loader)
        with samples_seen(self._model) as seen:
            super().update_stats()
        pool_running_statistics(seen)

    def _counted(self, batch: Any) -> Any:
        self._advance(1, note="norm statistics")
        return batch


@contextmanager
def samples_seen(model: nn.Module) -> Iterator[dict[nn.Module, int]]:
    """Yield {BatchNorm in training mode: number of values a channel that went through it inside the block}."""
    seen = dict.fromkeys(get_bn_modules(model), 0)

    def count(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        seen[norm] += inputs[0].numel() // inputs[0].shape[1]

    handles = [norm.register_forward_pre_hook(count) for norm in seen]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def pool_running_statistics(seen: Mapping[nn.Module, int]) -> None:
    """Replace each BatchNorm's running mean and variance by those of the samples of all ranks together.

    With n_r samples, mean m_r and variance v_r on rank r, and n = sum n_r:
    mean = sum n_r m_r / n, variance = sum n_r (v_r + m_r^2) / n - mean^2, in float64. The ranks' means spread, so their
    variances alone would average to less than the whole. fvcore's estimator does the same with the batches of a rank
    (Wu and Johnson, "Rethinking Batch in BatchNorm", arXiv:2105.07576, appendix).

    Args:
        seen: {BatchNorm: number of samples a channel behind this rank's statistics}, in the same order on every rank.
    """
    if comm.get_world_size() == 1:
        return
    for norm, number in seen.items():
        own = dict(norm.named_buffers())
        mean, variance = own["running_mean"].double(), own["running_var"].double()
        sums = torch.stack([torch.ones_like(mean), mean, variance + mean.square()]) * number
        distributed.all_reduce(sums)
        total, mean, square = sums[0], sums[1] / sums[0], sums[2] / sums[0]
        if total.min() > 0:
            own["running_mean"].copy_(mean)
            own["running_var"].copy_(square - mean.square())


class EvaluateWhenDone(hooks.EvalHook):
    """Evaluation at the end of the training, but not of one that ends by Ctrl-C in its last iteration."""

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:
            super().after_train()


class SafeCheckpointer(DetectionCheckpointer):
    """Checkpoints that are either whole or not there, however the run ends."""

    def save(self, name: str, **extra: Any) -> None:
        if not self.save_dir or not self.save_to_disk:
            return
        state = {"model": self.model.state_dict()}
        state |= {key: part.state_dict() for key, part in self.checkpointables.items()}
        path = Path(self.save_dir, f"{name}.pth")
        with atomic_path(path) as temporary:
            torch.save(state | extra, temporary)
        self.tag_last_checkpoint(path.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_text(Path(self.save_dir, "last_checkpoint"), last_filename_basename)


def _no_progress(steps: int = 1, note: str = "") -> None:
    """Take the place of a bar where none is shown."""
