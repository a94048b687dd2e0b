"""The commands that fill a cell: one line for each pretraining and seed, with all that follows from it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from evidence.found import Found
from evidence.paper import PaperCell, Training

Line = tuple[tuple[str, str], int]  # the training's key, and the seed


def pretrain_command(training: Training, seed: int) -> str:
    """Return what trains it; the same command goes on after an interruption."""
    changes = {"run.seed": seed, **training.changes}
    words = ["tools/pretrain.sh", f"configs/pretrain/{training.config}.py", "--method", training.method]
    words += ["--resume", "auto", "--work-dir", folder_of(training, seed)]
    return shlex.join([*words, "--cfg-options", *(f"{key}={value}" for key, value in changes.items())])


def folder_of(training: Training, seed: int) -> str:
    """Return the --work-dir of the command; the run is in a folder below it that is named after the method."""
    return f"work_dirs/{training.name}/seed_{seed}"


def lines(cells: Iterable[tuple[PaperCell, Iterable[int]]], found: Found) -> list[str]:
    """Return the commands of the cells that lack runs, one line for each pretraining.

    Steps that need each other stand in one line, joined by "&&"; lines need nothing of each other, so that a
    scheduler may run them in any order or at the same time. A pretraining that is done is not asked for again.

    Args:
        cells: Each with the seeds it lacks.
        found: What is there.
    """
    jobs: dict[Line, dict[str, None]] = {}  # steps in order, each once
    for cell, seeds in cells:
        for seed in seeds:
            if cell.training is not None:
                steps = jobs.setdefault((cell.training.key, seed), {})
                steps |= dict.fromkeys(_steps(cell, cell.training, seed, found))
    return [" && ".join(steps) for steps in jobs.values()]


def _steps(cell: PaperCell, training: Training, seed: int, found: Found) -> list[str]:
    """Return the steps of one cell and seed."""
    run = found.fitting(training).get(seed)
    branch = run.branch if run else "teacher" if training.method == "automix" else "model"
    folder = run.folder.as_posix() if run else f"{folder_of(training, seed)}/{training.method}"
    steps = [] if run else [pretrain_command(training, seed)]
    network = f"{folder}/export/{branch}.safetensors"
    if cell.table == 6:
        words = ["python", "tools/evaluate.py", network, "--metrics", "accuracy", "corruption", "fgsm"]
        words += ["--cifar-c", "data/CIFAR-100-C", "--out", f"{folder}/evaluation"]
        steps.append(shlex.join(words))
    if cell.table == 7:
        config, converted = cell.column.split("/")[0], f"{folder}/{branch}_d2.pth"
        steps.append(shlex.join(["python", "tools/convert_to_d2.py", network, converted]))
        words = ["python", "tools/finetune_d2.py", "--config", f"configs/d2/{config}.yaml", "--weights", converted]
        words += ["--seed", str(seed), "--output", f"work_dirs/d2/{config}/{training.method}-{seed}"]
        steps.append(shlex.join(words))
    if cell.table == 8:
        words = ["python", "tools/eval_wsol.py", "--checkpoint", network, "--data", "data/cub200"]
        words += ["--out", f"work_dirs/wsol/{training.name}/{training.method}-{seed}"]
        steps.append(shlex.join(words))
    return steps
