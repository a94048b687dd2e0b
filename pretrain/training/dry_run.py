"""A run up to the end of its first step: what it is, what it costs and what it will write, without leaving a trace."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pretrain.automix import AutoMix
from pretrain.console import UserError
from pretrain.training import checkpoint, logbook
from pretrain.training.cost import flop_counter
from pretrain.training.guards import images_a_process
from pretrain.training.loop import Run
from pretrain.training.optim import lr_factor
from pretrain.training.settings import Settings

MOST_ON_CPU = 16  # images of the one step, where it is made on a CPU


@dataclass(frozen=True)
class Memory:
    """Bytes of one process, for its part of the batch; `activations` at the largest of the step's branches."""

    parameters: int
    gradients: int
    optimizer: int
    averages: int
    activations: int
    total: int


@dataclass(frozen=True)
class DryRun:
    """What a run is, from its first step.

    Attributes:
        settings, folder: Of the run.
        images, classes: Training and validation images, and classes.
        trained, mix_block, frozen: Numbers of parameters: of all that is trained, of the Mix Block, of the copies and
            networks that are not trained.
        feature_map: Channels, height and width of what the Mix Block reads; None for other methods.
        lr_factor: What the config's learning rates are multiplied by for the batch.
        ema_decay: Of the average of the weights; None where none is kept.
        processes, batch: Their number, and the images of a step of each.
        steps_per_epoch, steps: Optimizer steps of an epoch and of the run.
        made_on: Images that each process made the step on.
        device: The device's type, "cpu" or "cuda".
        flops: Floating-point operations of a step, over all processes, for the full batch.
        losses: Of the step, by name.
        seconds: Of the step as it was made.
        memory: See `Memory`; on a GPU the total is measured, on a CPU it is a sum.
        files: What the run will write, by its path in the folder: bytes, or what is known of them.
        state: Whether a run is here, and what becomes of it.
        free: Bytes free on the disk of the folder.
    """

    settings: Settings
    folder: Path
    images: tuple[int, int]
    classes: int
    trained: int
    mix_block: int
    frozen: int
    feature_map: tuple[int, int, int] | None
    lr_factor: float
    ema_decay: float | None
    processes: int
    batch: int
    steps_per_epoch: int
    steps: int
    made_on: int
    device: str
    flops: int
    losses: dict[str, float]
    seconds: float
    memory: Memory
    files: dict[str, int | str]
    state: str
    free: int


def dry_run(settings: Settings, folder: Path, fabric: Fabric) -> DryRun:
    """Build everything as the run would, load a batch and make one whole step; nothing is written under `folder`.

    On a CPU the step is made on `MOST_ON_CPU` images at most, and operations and activations are scaled to the batch.
    One loader process reads the batch, and nothing is compiled: neither changes what a step computes.

    Args:
        settings: Of the run.
        folder: The run's.
        fabric: Launched; every process has to call.

    Raises:
        UserError: What the run itself would raise before its first step, and a loss that is not finite.
    """
    lean = replace(
        settings,
        data=replace(settings.data, workers=min(settings.data.workers, 1)),
        run=replace(settings.run, compile=False),
    )
    run = Run(lean, folder, fabric)
    try:
        images, labels = next(run.inputs.training(0))
    finally:
        run.inputs.close()
    batch = images_a_process(settings.data.batch_size, fabric.world_size, settings.optim.accumulate)
    made_on = batch if fabric.device.type == "cuda" else _few(batch, settings.optim.accumulate)
    if made_on < batch:
        images, labels = images[:made_on].clone(), labels[:made_on].clone()  # a view would hold the whole batch
    flops, activations, seconds = _step(run, images, labels)
    scaled = batch / made_on
    method = run.method
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    frozen = [parameter for parameter in method.parameters() if not parameter.requires_grad]
    return DryRun(
        settings=settings,
        folder=folder,
        images=run.inputs.images,
        classes=len(run.inputs.classes),
        trained=_count(trained),
        mix_block=_count(method.mix_block.parameters()) if isinstance(method, AutoMix) else 0,
        frozen=_count(frozen),
        feature_map=_feature_map(run, images[:2]) if isinstance(method, AutoMix) else None,
        lr_factor=lr_factor(settings.optim, settings.data.batch_size),
        ema_decay=settings.optim.ema_decay if "ema" in method.encoders() else None,
        processes=fabric.world_size,
        batch=batch,
        steps_per_epoch=run.inputs.steps_per_epoch,
        steps=run.total,
        made_on=made_on,
        device=fabric.device.type,
        flops=round(flops * scaled) * fabric.world_size,
        losses=run._means(),
        seconds=seconds,
        memory=_memory(run, trained, round(activations * scaled)),
        files=_files(run),
        state=_state(settings, folder, run.total),
        free=shutil.disk_usage(_existing(folder)).free,
    )


def _few(batch: int, parts: int) -> int:
    """Return how many images a step on a CPU takes: equal parts of at least two images, where the batch has them."""
    return min(batch, max(MOST_ON_CPU // parts, 2) * parts)


def _step(run: Run, images: Tensor, labels: Tensor) -> tuple[int, int, float]:
    """Make a step; return its operations, the peak of its activations in bytes (none on a GPU) and its seconds."""
    cuda = run.fabric.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(run.fabric.device)
    started = time.monotonic()
    with flop_counter() as counter, saved_bytes(run.method) as meter:
        run._step(images, labels)
    if cuda:
        torch.cuda.synchronize(run.fabric.device)
    return counter.get_total_flops(), meter["peak"], time.monotonic() - started


@contextmanager
def saved_bytes(method: nn.Module) -> Iterator[Counter[str]]:
    """Count the bytes of the storages that autograd holds: yields {"now", "peak"}.

    A step differentiates one branch after the other, so that the peak is the largest branch's. Parameters and buffers
    are left out, and their copies in half precision too, which are the same for any batch.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*method.parameters(), *method.buffers())}
    shapes = {tuple(parameter.shape) for parameter in method.parameters() if parameter.ndim > 1}
    shapes |= {shape[::-1] for shape in shapes if len(shape) == 2}
    meter: Counter[str] = Counter(now=0, peak=0)
    holders: Counter[int] = Counter()

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            storage = tensor.untyped_storage()
            self.tensor, self.key, self.bytes = tensor, storage.data_ptr(), storage.nbytes()
            self.counts = self.key not in own and tuple(tensor.shape) not in shapes
            if self.counts:
                if not holders[self.key]:
                    meter["now"] += self.bytes
                    meter["peak"] = max(meter["peak"], meter["now"])
                holders[self.key] += 1

        def __del__(self) -> None:
            if self.counts:
                holders[self.key] -= 1
                if not holders[self.key]:
                    meter["now"] -= self.bytes

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        yield meter


@torch.no_grad()
def _feature_map(run: Run, images: Tensor) -> tuple[int, int, int]:
    assert isinstance(run.method, AutoMix)
    with run.fabric.autocast():
        _, channels, height, width = run.method.features(images).shape
    return channels, height, width


def _memory(run: Run, trained: list[nn.Parameter], activations: int) -> Memory:
    method = run.method
    held = _bytes((*method.parameters(), *method.buffers()))
    gradients, optimizer = _bytes(trained), _optimizer_bytes(run)
    frozen: dict[int, Tensor] = {id(tensor): tensor for tensor in method.parameters() if not tensor.requires_grad}
    for module in method.modules():
        if frozen and all(id(parameter) in frozen for parameter in module.parameters()):
            frozen |= {id(buffer): buffer for buffer in module.buffers()}
    averages = _bytes(frozen.values())
    if run.fabric.device.type == "cuda":
        total = torch.cuda.max_memory_allocated(run.fabric.device)
        activations = max(0, total - held - gradients - optimizer)
    else:
        total = held + gradients + optimizer + activations
    return Memory(held - averages, gradients, optimizer, averages, activations, total)


def _optimizer_bytes(run: Run) -> int:
    states = run.optimizer.optimizer.state.values()
    return _bytes(value for state in states for value in state.values() if isinstance(value, Tensor))


def _files(run: Run) -> dict[str, int | str]:
    """Return what the run will write, in the order of docs/pretraining.md."""
    method, settings = run.method, run.settings.run
    floats = _bytes(buffer for buffer in method.buffers() if buffer.is_floating_point())
    state = _bytes(method.state_dict().values()) + _optimizer_bytes(run) + run.fabric.world_size * floats
    files: dict[str, int | str] = {
        logbook.FILE_NAME: f"a line every {settings.log_every} steps",
        "tensorboard/": "the same",
    }
    if isinstance(method, AutoMix):
        for kind in ("png", "safetensors"):
            files[f"mixes/*.{kind}"] = f"after the first epoch and every {settings.inspect_every}"
    files |= {checkpoint.FILE_NAME: state, checkpoint.PREVIOUS_NAME: state, "result.json": "a few KiB"}
    for name, network in method.encoders().items():
        files[f"export/{name}.safetensors"] = _bytes(network.state_dict().values())
    if isinstance(method, AutoMix) and method.generates:
        files["export/mix_block.safetensors"] = _bytes(method.mix_block.state_dict().values())
    return files


def _state(settings: Settings, folder: Path, total: int) -> str:
    """Return whether a run is in the folder, and what the command would do, with --resume auto and without."""
    if not checkpoint.has_state(folder):
        return "none here: the run starts anew, with --resume auto too"
    refused = "without --resume auto the run is refused"
    try:
        state = checkpoint.load_state(folder, asdict(settings))
    except UserError as error:
        return f"here, but --resume auto is refused too: {error}"
    assert state is not None
    if state["step"] >= total:
        return f"here, after its last step: --resume auto trains no further and writes the results anew; {refused}"
    return f"here, at step {state['step']:,} of {total:,}: --resume auto goes on from there; {refused}"


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
