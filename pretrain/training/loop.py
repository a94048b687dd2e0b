"""The pretraining loop: plain, on Lightning Fabric, and blind to the method it trains."""

from __future__ import annotations

import inspect
import os
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning_fabric
import timm
import torch
import torchvision
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from pretrain.automix import AutoMix, save_mix_block
from pretrain.backbones import BackboneCard, build_backbone, export_backbone
from pretrain.console import UserError, progress
from pretrain.data.datasets import open_image_folder
from pretrain.data.loaders import EpochSampler, build_loader
from pretrain.data.seeds import derive_seed
from pretrain.data.transforms import IMAGENET_MEAN, IMAGENET_STD, Normalise, eval_transform, train_transform
from pretrain.evaluation.accuracy import accuracy
from pretrain.files import read_json, write_json
from pretrain.training.checkpoint import FILE_NAME, load_state, save_state
from pretrain.training.guards import per_process_batch, require_finite, require_room_for_states
from pretrain.training.logbook import Logbook, read_log
from pretrain.training.methods import Classification, build_method
from pretrain.training.optim import build_optimizer, build_schedule
from pretrain.training.settings import Settings

LAST_EPOCHS = 10  # the paper's figure is the median over the last ten epochs, of a hundred or more


def launch_fabric(precision: str) -> Fabric:
    """Return a Fabric for this process: alone, or one of those that torchrun or SLURM started."""
    env = os.environ
    devices = int(env.get("LOCAL_WORLD_SIZE", env.get("SLURM_NTASKS_PER_NODE", 1)))
    nodes = int(env.get("GROUP_WORLD_SIZE", env.get("SLURM_NNODES", 1)))
    # Batch-norm statistics stay each rank's own, as in the authors' code. Newer versions of torch rename the argument.
    arguments = inspect.signature(DistributedDataParallel).parameters
    own_statistics = "forward_sync_buffers" if "forward_sync_buffers" in arguments else "broadcast_buffers"
    options: dict[str, Any] = {own_statistics: False}
    strategy = DDPStrategy(**options) if devices * nodes > 1 else "auto"
    fabric = Fabric(accelerator="auto", devices=devices, num_nodes=nodes, strategy=strategy, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


def train(settings: Settings, folder: Path, resume: bool, fabric: Fabric) -> dict[str, Any]:
    """Train to the end, or go on from the last training state, then evaluate and export.

    Args:
        settings: Of the run.
        folder: Where log, training state, export and result.json go.
        resume: Whether to go on from a training state in `folder`; without one the run starts anew.
        fabric: Launched.

    Returns:
        What result.json holds: accuracies in percent, seconds, steps.

    Raises:
        UserError: A training state is there and `resume` is not set; the data set is missing; the disk is too full;
            a loss is not finite.
    """
    if (folder / FILE_NAME).is_file() and not resume:
        raise UserError(f"{folder}: a run is here already; add --resume auto to go on, or name another --work-dir")
    plain = asdict(settings)
    train_set, val_set = open_image_folder(
        settings.data.root,
        train_transform(settings.data.transform),
        eval_transform(settings.data.transform),
        settings.run.seed,
        settings.data.prepare,
    )
    batch = per_process_batch(settings.data.batch_size, fabric.world_size)
    ranks = {"rank": fabric.global_rank, "world_size": fabric.world_size}
    sampler = EpochSampler(len(train_set), batch, shuffle=True, seed=settings.run.seed, **ranks)
    if not sampler.steps_per_epoch:
        raise UserError(f"data.batch_size {settings.data.batch_size} exceeds the {len(train_set)} training images")
    pin = fabric.device.type == "cuda"
    loader = build_loader(train_set, sampler, settings.data.workers, pin)
    val_loader = build_loader(
        val_set, EpochSampler(len(val_set), batch, shuffle=False, **ranks), settings.data.workers, pin
    )

    torch.manual_seed(derive_seed(settings.run.seed))
    classes = train_set.classes
    method = build_method(settings.method, build_backbone(settings.backbone.name, len(classes)), len(classes))
    if settings.run.channels_last:
        method.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(method, settings.optim)
    require_room_for_states(folder, method)
    done = load_state(folder, method, optimizer, plain)
    step, elapsed = done or (0, 0.0)
    module, optimizer = fabric.setup(method, optimizer)
    module.mark_forward_method("training_step")

    run = _Run(settings, folder, fabric, method, module, optimizer, loader, val_loader, sampler, classes)
    elapsed = run.fit(step, elapsed)
    return run.finish(elapsed)


class _Run:
    """One run's parts and its loop."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        fabric: Fabric,
        method: AutoMix | Classification,
        module: Any,
        optimizer: Any,
        loader: DataLoader,
        val_loader: DataLoader,
        sampler: EpochSampler,
        classes: list[str],
    ) -> None:
        self.settings, self.folder, self.fabric = settings, folder, fabric
        self.method, self.module, self.optimizer = method, module, optimizer
        self.loader, self.val_loader, self.sampler, self.classes = loader, val_loader, sampler, classes
        self.normalise = Normalise().to(fabric.device)
        self.total = settings.optim.epochs * sampler.steps_per_epoch
        self.schedule = build_schedule(optimizer, settings.optim, sampler.steps_per_epoch)

    def fit(self, step: int, elapsed: float) -> float:
        """Train from `step` to the end; return the training seconds over all sittings, evaluation left out."""
        log = Logbook(self.folder, step) if self.fabric.is_global_zero else None
        name = f"{self.settings.name}/{self.settings.method.name}"
        with progress(name, self.total, step, visible=self.fabric.is_global_zero) as advance:
            while step < self.total:
                epoch, offset = divmod(step, self.sampler.steps_per_epoch)
                self.sampler.start(epoch, offset)
                started = time.monotonic()
                for images, labels in self._batches(self.loader):
                    losses = self._step(step, images, labels)
                    step += 1
                    if step % self.settings.run.log_every == 0 or step == self.total:
                        values = {key: value.item() for key, value in losses._asdict().items()}
                        require_finite(values, step)
                        if log:
                            log.write(step, lr=self.optimizer.param_groups[0]["lr"], **values)
                        advance(0, f"loss {values['total']:.3f}")
                    advance()
                elapsed += time.monotonic() - started
                self._end_epoch(step, epoch + 1, elapsed, log)
        return elapsed

    def _step(self, step: int, images: Tensor, labels: Tensor) -> Any:
        seed = derive_seed(self.settings.run.seed, self.fabric.global_rank, step)
        torch.manual_seed(seed)  # for what draws from the global generator, such as stochastic depth
        self.method.set_progress(step / self.total)
        self.schedule.step_update(step)
        losses = self.module.training_step(images, labels, generator=torch.Generator().manual_seed(seed))
        self.fabric.backward(losses.total)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.method.after_step()
        return losses

    def _end_epoch(self, step: int, epoch: int, elapsed: float, log: Logbook | None) -> None:
        last = epoch == self.settings.optim.epochs
        if last or epoch % self.settings.run.evaluate_every == 0:
            measured = self._evaluate()
            if log:
                log.write(step, epoch=epoch, elapsed=elapsed, **measured)
        if (last or epoch % self.settings.run.checkpoint_every == 0) and self.fabric.is_global_zero:
            save_state(self.folder, self.method, self.optimizer.optimizer, step, asdict(self.settings), elapsed)
        self.fabric.barrier()

    def _evaluate(self) -> dict[str, float]:
        return accuracy(self.method.encoders(), self._batches(self.val_loader), len(self.classes), self.fabric)

    def _batches(self, loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
        layout = torch.channels_last if self.settings.run.channels_last else torch.contiguous_format
        for images, labels in loader:
            on_device = images.to(self.fabric.device, non_blocking=True).contiguous(memory_format=layout)
            yield self.normalise(on_device), labels.to(self.fabric.device, non_blocking=True)

    def finish(self, elapsed: float) -> dict[str, Any]:
        """Export every network of the method and write result.json; return what it holds."""
        path = self.folder / "result.json"
        if self.fabric.is_global_zero:
            accuracies = _last_epochs(self.folder, self.settings.optim.epochs)
            for branch, network in self.method.encoders().items():
                export_backbone(network, self._card(branch, accuracies), self.folder / "export" / branch)
            if isinstance(self.method, AutoMix):
                save_mix_block(self.method.mix_block, self.folder / "export" / "mix_block")
            result = {
                "name": self.settings.name,
                "method": self.settings.method.name,
                "branch": next(iter(self.method.encoders())),
                "accuracy": accuracies,
                "train_seconds": elapsed,
                "steps": self.total,
                "images_per_second": self.total * self.settings.data.batch_size / elapsed if elapsed else 0.0,
                "environment": environment(self.fabric),
                "settings": asdict(self.settings),
            }
            write_json(path, result)
        self.fabric.barrier()
        return read_json(path)

    def _card(self, branch: str, accuracies: dict[str, float]) -> BackboneCard:
        size = self.settings.data.transform.size
        own = {key.removeprefix(f"{branch}_"): value for key, value in accuracies.items() if key.startswith(branch)}
        return BackboneCard(
            arch=self.settings.backbone.name,
            classes=tuple(self.classes),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            input_size=(size, size),
            method=self.settings.method.name,
            branch=branch,
            training=asdict(self.settings),
            metrics=own,
            environment=environment(self.fabric),
        )


def _last_epochs(folder: Path, epochs: int) -> dict[str, float]:
    """Return the median of each accuracy over the last ten epochs (Section 4.1), in percent.

    A run of fewer than a hundred epochs counts its last tenth, at least the last one: what is far from the end is no
    sample of the result. Epochs that were not evaluated are not there to be counted.
    """
    first = epochs - min(LAST_EPOCHS, max(1, epochs // 10))
    evaluated = [entry for entry in read_log(folder) if entry.get("epoch", 0) > first]
    names = [key for key in evaluated[-1] if key.endswith(("_top1", "_top5"))]
    return {name: statistics.median(entry[name] for entry in evaluated) for name in names}


def environment(fabric: Fabric) -> dict[str, str]:
    """Return the versions and the device that a run depends on."""
    device = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else fabric.device.type
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "lightning-fabric": lightning_fabric.__version__,
        "device": f"{fabric.world_size} x {device}",
    }
