"""The pretraining loop: plain, on Lightning Fabric, and blind to the method it trains."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from pretrain.automix import AutoMix
from pretrain.console import ResumeMe, UserError, progress, tell
from pretrain.data.seeds import derive_seed
from pretrain.evaluation.accuracy import accuracy
from pretrain.evaluation.looks import forget_looks_after
from pretrain.training.checkpoint import has_state, load_state, load_whole, save_state, whole
from pretrain.training.devices import (
    average_gradients,
    average_statistics,
    gather,
    gather_statistics,
    restore_statistics,
)
from pretrain.training.guards import list_unreadable, require_finite, require_finite_weights, require_room_for_states
from pretrain.training.inputs import Inputs
from pretrain.training.inspection import inspect_mixing
from pretrain.training.interrupt import StopRequest
from pretrain.training.logbook import Logbook
from pretrain.training.methods import Classification, method_of, untrained_method_of
from pretrain.training.optim import Schedule, build_optimizer, lr_factor
from pretrain.training.results import write_results
from pretrain.training.settings import Settings
from pretrain.training.sharding import clip_norm, gathered, require_shardable, shard


def train(settings: Settings, folder: Path, resume: bool, fabric: Fabric) -> dict[str, Any]:
    """Train to the end, or go on from the last training state, then evaluate and export.

    Args:
        settings: Of the run.
        folder: Where log, training states, pictures, export and result.json go.
        resume: Whether to go on from a training state in `folder`; without one the run starts anew.
        fabric: Launched.

    Returns:
        What result.json holds: accuracies in percent, seconds, steps.

    Raises:
        UserError: A training state is there and `resume` is not set; the data set is missing; the disk is too full;
            a loss is not finite.
        ResumeMe: A signal asked to stop; the training state is saved.
    """
    if has_state(folder) and not resume:
        raise UserError(f"{folder}: a run is here already; add --resume auto to go on, or name another --work-dir")
    run = Run(settings, folder, fabric)
    try:
        run.restore()
        with StopRequest() as stop:
            run.fit(stop)
    finally:
        run.inputs.close()
    return write_results(settings, folder, run.whole_method(), run.inputs.classes, run.elapsed, run.total, fabric)


class Run:
    """One run's parts and its loop."""

    def __init__(self, settings: Settings, folder: Path, fabric: Fabric) -> None:
        self.settings, self.folder, self.fabric = settings, folder, fabric
        self.sharded = settings.run.sharding == "fsdp"
        require_shardable(settings, fabric.world_size)
        self.inputs = Inputs(settings, fabric)
        torch.manual_seed(derive_seed(settings.run.seed))
        self._build_method()
        self.total = settings.optim.epochs * self.inputs.steps_per_epoch
        self.schedule = Schedule(self.optimizer, settings.optim, self.inputs.steps_per_epoch)
        self.step, self.elapsed = 0, 0.0
        self.sums: dict[str, Tensor] = {}  # of every loss and measure since the last line of the log, on the device
        self.summed = 0

    def _build_method(self) -> None:
        with self.fabric.rank_zero_first(local=True):  # what has to be downloaded is downloaded once
            self.method: AutoMix | Classification = method_of(self.settings, len(self.inputs.classes))
        if self.settings.run.channels_last and not self.sharded:  # FSDP takes weights in their usual layout only
            self.method.to(memory_format=torch.channels_last)
        if self.settings.run.compile:
            self.method.compile()
        require_room_for_states(self.folder, self.method)
        optim, batch = self.settings.optim, self.settings.data.batch_size
        if (factor := lr_factor(optim, batch)) != 1:
            tell(
                f"learning rate: {optim.lr:g} at {optim.lr_batch_size} images is {optim.lr * factor:g} at {batch}, "
                "scaled linearly (optim.lr_batch_size)"
            )
        self.module: Any = None
        if self.sharded:  # Fabric would wrap the module by DDP
            shard(self.method.to(self.fabric.device), self.fabric)
            self.optimizer: Any = self.fabric.setup_optimizers(build_optimizer(self.method, optim, batch))
        else:
            self.module, self.optimizer = self.fabric.setup(self.method, build_optimizer(self.method, optim, batch))

    def restore(self) -> None:
        """Go on from the folder's training state, where there is one."""
        state = load_state(self.folder, asdict(self.settings))
        if state is None:
            return
        load_whole(self.method, self.optimizer.optimizer, state["method"], state["optimizer"])
        restore_statistics(self.method, state["buffers"], self.fabric)
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.schedule = Schedule(self.optimizer, self.settings.optim, self.inputs.steps_per_epoch)
        self.step, self.elapsed, self.summed = state["step"], state["elapsed"], state["summed"]
        same, rank = len(state["buffers"]) == self.fabric.world_size, self.fabric.global_rank
        self.sums = {
            name: (each[rank] if same else each.mean()).to(self.fabric.device) for name, each in state["sums"].items()
        }

    def whole_method(self) -> AutoMix | Classification:
        """Return the method; on the first process one without shards, for what is handed over."""
        if not self.sharded:
            return self.method
        weights = whole(self.method.state_dict(), keep=self.fabric.is_global_zero)
        if not self.fabric.is_global_zero:
            return self.method
        method = untrained_method_of(self.settings, len(self.inputs.classes))
        method.load_state_dict(weights)
        return method

    def fit(self, stop: StopRequest) -> None:
        """Train from the present step to the end."""
        first = self.fabric.is_global_zero
        project = self.settings.run.wandb
        log = Logbook(self.folder, self.step, project, asdict(self.settings)) if first else None
        if first:
            forget_looks_after(self.folder, self.step // self.inputs.steps_per_epoch)
        name = f"{self.settings.name}/{self.settings.method.name}"
        try:
            with progress(name, self.total, self.step, visible=first) as advance:
                while self.step < self.total:
                    self._epoch(log, advance, stop)
        finally:
            if log:
                log.close()

    def _epoch(self, log: Logbook | None, advance: Any, stop: StopRequest) -> None:
        every, steps_per_epoch = self.settings.run, self.inputs.steps_per_epoch
        before, started = self.elapsed, time.monotonic()
        lined, steps = started, 0  # time and number of steps since the last line, to tell the speed
        for images, labels in self.inputs.training(self.step):
            self._step(images, labels)
            steps += 1
            self.elapsed = before + time.monotonic() - started
            at_line = self.step % every.log_every == 0 or self.step == self.total
            if at_line:
                means = self._means()
                speed = steps * self.settings.data.batch_size / (time.monotonic() - lined)
                lined, steps = time.monotonic(), 0
                self.sums, self.summed = {}, 0
                if log:
                    rate = self.optimizer.param_groups[0]["lr"]
                    log.write(self.step, lr=rate, images_per_second=speed, **means)
                advance(0, f"loss {means['total']:.3f}, {speed:.0f} images/s")
            advance()
            in_epoch = self.step % steps_per_epoch
            if in_epoch and (self.fabric.world_size == 1 or at_line):  # else the processes would wait for each other
                self._stop_where_asked(stop)
            if every.checkpoint_steps and in_epoch and in_epoch % every.checkpoint_steps == 0:
                self._save()
        self._end_epoch(self.step // steps_per_epoch, log)
        if self.step < self.total:
            self._stop_where_asked(stop)

    def _step(self, images: Tensor, labels: Tensor) -> None:
        seed = derive_seed(self.settings.run.seed, self.fabric.global_rank, self.step)
        torch.manual_seed(seed)  # for what draws from the global generator, such as stochastic depth
        generator = torch.Generator().manual_seed(seed)
        self.method.set_progress(self.step, self.total)
        self.schedule.set_rates(self.step)
        parts = self.settings.optim.accumulate
        # One exchange at the end, for all branches and parts; FSDP makes one in each backward pass.
        with nullcontext() if self.sharded else self.fabric.no_backward_sync(self.module):
            for part, part_labels in zip(images.chunk(parts), labels.chunk(parts), strict=True):
                with self.fabric.autocast():
                    losses = self.method.training_step(part, part_labels, generator=generator, backward=self._backward)
                self._add({**losses._asdict(), **self.method.measures}, parts)
        average_gradients(self.method.parameters(), self.fabric)
        if clip := self.settings.optim.clip_norm:
            if self.sharded:
                norm: Tensor | None = clip_norm(self.method.parameters(), clip)
            else:
                norm = self.fabric.clip_gradients(self.module, self.optimizer, max_norm=clip, error_if_nonfinite=False)
            self._add({"gradient_norm": norm}, 1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.method.after_step()
        self.step += 1
        self.summed += 1

    def _backward(self, loss: Tensor) -> None:
        with torch.autocast(self.fabric.device.type, enabled=False):  # the forward pass has chosen every type already
            self.fabric.backward(loss / self.settings.optim.accumulate)

    def _add(self, values: dict[str, Tensor | None], parts: int) -> None:
        """Add to the sums on the device; nothing is read back."""
        for name, value in values.items():
            if value is not None:
                share = value.detach().float() / parts
                self.sums[name] = self.sums[name] + share if name in self.sums else share

    def _means(self) -> dict[str, float]:
        """Read the mean of every loss since the last line of the log, over steps and processes; it has to be finite."""
        names = list(self.sums)
        sums = torch.stack([self.sums[name] for name in names])
        means = torch.as_tensor(self.fabric.all_reduce(sums, reduce_op="mean")) / self.summed
        values = dict(zip(names, means.tolist(), strict=True))
        require_finite(values, self.step - self.summed + 1, self.step)
        return values

    def _stop_where_asked(self, stop: StopRequest) -> None:
        if stop.agreed(self.fabric):
            self._save()
            self.fabric.barrier()  # SLURM may end all tasks when the first has ended: not while one still writes
            asked = stop.signal.name if stop.signal else "another process"
            raise ResumeMe(
                f"stopped by {asked} after step {self.step} of {self.total}; --resume auto goes on from there"
            )

    def _end_epoch(self, epoch: int, log: Logbook | None) -> None:
        run, last = self.settings.run, epoch == self.settings.optim.epochs
        average_statistics(self.method, self.fabric)
        measured: dict[str, float] = {}
        if last or epoch % run.evaluate_every == 0:
            with gathered(self.method):
                measured |= accuracy(
                    self.method.encoders(), self.inputs.validation(), len(self.inputs.classes), self.fabric
                )
        if last or epoch == 1 or epoch % run.inspect_every == 0:  # the first: masks come early in training (Fig. 7)
            with gathered(self.method), self.fabric.autocast():
                found, look = inspect_mixing(
                    self.method,
                    self.inputs.validation(),
                    self.inputs.pairs,
                    len(self.inputs.classes),
                    run.seed,
                    self.fabric,
                )
            measured |= found
            if log and look:
                look.save(self.folder, epoch)
                log.picture(self.step, "mixes", look.figure)
        if unreadable := self.inputs.unreadable():
            measured["unreadable_images"] = float(len(unreadable))
            if log:
                list_unreadable(self.folder, unreadable)
        if log and measured:
            log.write(self.step, epoch=epoch, elapsed=self.elapsed, **measured)
        if last or epoch % run.checkpoint_every == 0:
            self._save()
        self.fabric.barrier()

    def _save(self) -> None:
        if self.summed:
            self._means()  # a loss that is not finite must not reach a training state
        require_finite_weights(self.method, self.step)
        buffers = gather_statistics(self.method, self.fabric)
        sums = {name: gather(own.reshape(1), self.fabric).flatten() for name, own in self.sums.items()}
        weights = whole(self.method.state_dict(), keep=self.fabric.is_global_zero)
        optimizer = whole(self.optimizer.optimizer.state_dict(), keep=self.fabric.is_global_zero)
        if self.fabric.is_global_zero:
            save_state(
                self.folder,
                {
                    "method": weights,
                    "buffers": buffers,
                    "optimizer": optimizer,
                    "precision": self.fabric.strategy.precision.state_dict(),
                    "step": self.step,
                    "settings": asdict(self.settings),
                    "elapsed": self.elapsed,
                    "sums": sums,
                    "summed": self.summed,
                },
            )
