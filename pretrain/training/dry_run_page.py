"""The page that a dry run prints."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from pretrain.automix import AutoMixSettings
from pretrain.training.dry_run import DryRun

Line = tuple[str, str]


def print_page(found: DryRun, console: Console) -> None:
    """Print what a dry run found, a page for each method."""
    console.print(f"\n[bold]{found.settings.name}, {found.settings.method.name}[/bold]: dry run", highlight=False)
    for title, lines in (
        ("run", _run(found)),
        ("network", _network(found)),
        ("training", _training(found)),
        ("one step", _step(found)),
        ("memory of a process", _memory(found)),
        ("files", _files(found)),
    ):
        table = Table.grid(padding=(0, 2))
        table.add_column(width=15, style="dim", no_wrap=True)
        table.add_column()
        for name, text in lines:
            table.add_row(f"  {name}", text)
        console.print(f"[bold]{title}[/bold]")
        console.print(table, highlight=False, markup=False)


def _run(found: DryRun) -> Iterator[Line]:
    data, (train, val) = found.settings.data, found.images
    yield "data", f"{train:,} training and {val:,} validation images, {found.classes:,} classes: {data.root}"
    side, tested = data.transform.size, data.transform.test_size
    repeats = f", each {data.repeated_augmentation} times in a row" if data.repeated_augmentation > 1 else ""
    yield "pixels", f"{side} x {side}{repeats}" + (f", tested at {tested} x {tested}" if tested else "")
    yield "folder", str(found.folder)
    yield "a run is", found.state


def _network(found: DryRun) -> Iterator[Line]:
    backbone, method = found.settings.backbone, found.settings.method
    start = f"from {backbone.pretrained}" if backbone.pretrained else "from random weights"
    yield "backbone", f"{backbone.name}, {start}"
    block = f", of them {found.mix_block:,} of the Mix Block" if found.mix_block else ""
    frozen = f"; {found.frozen:,} of frozen copies and networks" if found.frozen else ""
    yield "parameters", f"{found.trained:,} trained{block}{frozen}"
    if found.feature_map and isinstance(method, AutoMixSettings):
        channels, height, width = found.feature_map
        yield "Mix Block", f"reads stage {method.feature_layer}: {channels} channels, {height} x {width}"


def _training(found: DryRun) -> Iterator[Line]:
    optim = found.settings.optim
    peak, end = optim.lr * found.lr_factor, optim.min_lr * found.lr_factor
    scaled = f" (scaled from {optim.lr:g} at {optim.lr_batch_size} images)" if found.lr_factor != 1 else ""
    warm_up = f"after {optim.warmup_epochs:g} epochs of warm-up" if optim.warmup_epochs else "from the first step"
    yield "optimizer", f"{optim.name}, {found.settings.run.precision}"
    yield "learning rate", f"{peak:g}{scaled} {warm_up}, along a cosine to {end:g}"
    where = "every parameter" if optim.decay_norm_and_bias else "weights, not norms and biases"
    yield "weight decay", f"{optim.weight_decay:g}, {where}"
    yield "clipping", f"of the gradient, to norm {optim.clip_norm:g}" if optim.clip_norm else "none"
    if found.ema_decay:
        yield "average", f"of the weights, decay {found.ema_decay:g}"
    share = f", {found.batch} in each of {found.processes} processes" if found.processes > 1 else ", one process"
    parts = f", in {optim.accumulate} parts" if optim.accumulate > 1 else ""
    yield "batch", f"{found.batch * found.processes:,} images{share}{parts}"
    yield "steps", f"{found.steps:,}: {optim.epochs} epochs of {found.steps_per_epoch:,}"


def _step(found: DryRun) -> Iterator[Line]:
    whole = found.batch * found.processes
    if found.made_on < found.batch:
        text = f"{found.made_on} images on this CPU; operations and activations are scaled to {found.batch}"
    else:
        text = f"{found.made_on} images, the whole batch of a process"
    yield "made on", text
    yield "losses", ", ".join(f"{name} {value:.4g}" for name, value in found.losses.items())
    operations = (found.flops, found.flops / whole, found.flops * found.steps)
    a_step, an_image, all_steps = map(_operations, operations)
    yield "FLOPs", f"{a_step} a step, {an_image} an image, {all_steps} the run; a multiply-add counts as 2"
    yield "seconds", f"{found.seconds:.1f}, a first step while it is counted: a rough figure"


def _memory(found: DryRun) -> Iterator[Line]:
    memory = found.memory
    for name in ("parameters", "gradients", "optimizer", "averages", "activations"):
        if size := getattr(memory, name):
            yield name, f"{_size(size):>9}"
    kind = "at its peak, as CUDA's allocator had it" if found.device == "cuda" else "an estimate, without workspaces"
    yield "total", f"{_size(memory.total):>9}  {kind}"


def _files(found: DryRun) -> Iterator[Line]:
    for name, size in found.files.items():
        yield "", f"{name:<30} {_size(size) if isinstance(size, int) else size}"
    yield "free", f"{_size(found.free)} on the disk; the two training states and one in the making need most"


def _operations(count: float) -> str:
    for unit in ("G", "T", "P"):
        count /= 1000 if unit != "G" else 1e9
        if count < 1000:
            return f"{count:.3g} {unit}FLOP"
    return f"{count / 1000:,.4g} EFLOP"


def _size(count: int) -> str:
    if count < 2**20:
        return f"{count / 2**10:.1f} KiB"
    return f"{count / 2**20:,.1f} MiB" if count < 2**30 else f"{count / 2**30:,.1f} GiB"
