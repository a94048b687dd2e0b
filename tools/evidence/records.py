"""Pretraining runs with their logs, the unfinished ones too: what a report is made of."""

from __future__ import annotations

import pickle
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from evidence.runs import LOG, RESULT, PretrainRun, find_files, find_pretrain_runs, flat
from pretrain.console import UserError
from pretrain.files import read_json
from pretrain.training.checkpoint import FILE_NAME as STATE
from pretrain.training.checkpoint import PREVIOUS_NAME
from pretrain.training.logbook import read_log
from pretrain.training.settings import load_settings

CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass(frozen=True)
class Record:
    """One run.

    Attributes:
        folder: Where it lies.
        config: The config's name, e.g. "cifar100/r18_800ep"; "" of an unfinished run that saved no state yet.
        method: e.g. "automix".
        branch: The network whose accuracy is the result.
        seed: None where it is not known.
        step, total: Steps done, and those of the whole run; None where not known.
        seconds: Of training.
        accuracy: {"teacher_top1": percent, ...}: result.json's, of an unfinished run the last that were measured.
        settings, environment: result.json's; {} where not known.
        log: The entries of log.jsonl.
        finished: Whether there is a result.json.
    """

    folder: Path
    config: str
    method: str
    branch: str
    seed: int | None
    step: int
    total: int | None
    seconds: float
    accuracy: dict[str, float]
    settings: dict[str, Any]
    environment: dict[str, Any]
    log: list[dict[str, Any]]
    finished: bool

    @property
    def networks(self) -> list[str]:
        """The networks of the method, its result first."""
        names = [key.removesuffix("_top1") for key in self.accuracy if key.endswith("_top1")]
        return sorted(names, key=lambda name: name != self.branch)

    @property
    def images_per_second(self) -> float | None:
        """Images over seconds of training; None where the size of a batch is not known."""
        batch = self.settings.get("data", {}).get("batch_size")
        return self.step * batch / self.seconds if batch and self.seconds else None


def read_records(roots: Sequence[Path]) -> tuple[list[Record], dict[Path, str]]:
    """Read every run below the folders, finished ones first.

    Returns:
        The runs, and {path: reason} for what was left out.

    Raises:
        UserError: A folder is missing, none has a run, or a log is damaged.
    """
    finished, left_out = find_pretrain_runs(roots)
    records = [_finished(run) for run in finished]
    unfinished = [path.parent for path in find_files(roots, (LOG,)) if not (path.parent / RESULT).exists()]
    records += [_unfinished(folder) for folder in unfinished]
    left_out = {path: why for path, why in left_out.items() if path not in unfinished}
    if not records:
        where = ", ".join(map(str, roots))
        reasons = "".join(f"; {path}: {why}" for path, why in left_out.items())
        raise UserError(
            f"{where}: no pretraining run here; a run's folder, e.g. work_dirs/NAME/METHOD of tools/pretrain.sh, holds "
            f"{LOG}, and {RESULT} when it has ended{reasons}"
        )
    return records, left_out


def _finished(run: PretrainRun) -> Record:
    return Record(
        folder=run.folder,
        config=run.config,
        method=run.method,
        branch=run.branch,
        seed=run.seed,
        step=run.steps,
        total=run.steps,
        seconds=run.seconds,
        accuracy=read_json(run.folder / RESULT)["accuracy"],
        settings=run.settings,
        environment=run.environment,
        log=_log(run.folder) if (run.folder / LOG).is_file() else [],
        finished=True,
    )


def _unfinished(folder: Path) -> Record:
    """Take from the log what has been done, and from the training state, where one is saved, the settings."""
    log, settings = _log(folder), _saved_settings(folder)
    epochs = [entry for entry in log if "epoch" in entry]
    measured = [entry for entry in epochs if any(key.endswith("_top1") for key in entry)]
    accuracy = {key: value for key, value in (measured or [{}])[-1].items() if key.endswith(("_top1", "_top5"))}
    total = settings["optim"]["epochs"] * epochs[-1]["step"] // epochs[-1]["epoch"] if settings and epochs else None
    return Record(
        folder=folder,
        config=settings.get("name", ""),
        method=settings["method"]["name"] if settings else folder.resolve().name,
        branch=next((key.removesuffix("_top1") for key in accuracy if key.endswith("_top1")), ""),
        seed=settings["run"]["seed"] if settings else None,
        step=log[-1]["step"] if log else 0,
        total=total,
        seconds=epochs[-1]["elapsed"] if epochs else 0.0,
        accuracy=accuracy,
        settings=settings,
        environment={},
        log=log,
        finished=False,
    )


def _log(folder: Path) -> list[dict[str, Any]]:
    log = read_log(folder)
    for number, entry in enumerate(log, start=1):
        if not isinstance(entry, dict) or "step" not in entry or ("epoch" in entry and "elapsed" not in entry):
            raise UserError(f"{folder / LOG}: entry {number} is none of a run's log ({entry!r:.60}); remove the line")
    return log


def _saved_settings(folder: Path) -> dict[str, Any]:
    """Return the settings that a training state holds, {} where none can be read; no weight leaves the disk for it."""
    for path in (folder / STATE, folder / PREVIOUS_NAME):
        try:
            settings: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["settings"]
        except (RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError):
            continue
        return settings
    return {}


def command_of(record: Record) -> str | None:
    """Return the command that makes such a run, None where this repository has no such config.

    What the run's settings have otherwise than the config and the method's defaults is given by --cfg-options.
    """
    paths = [CONFIGS / room / f"{record.config}.py" for room in ("pretrain", ".")]
    path = next((path for path in paths if record.config and path.is_file()), None)
    if path is None:
        return None
    try:
        default = flat(asdict(load_settings(path, method=record.method)))
    except UserError:
        return None  # the method cannot be had from this config by its name alone
    own = flat(record.settings)
    if set(own) - set(default):
        return None  # of a version with other settings
    options = [f"{key}={_word(value)}" for key, value in own.items() if _word(value) != _word(default[key])]
    command = ["tools/pretrain.sh", f"configs/{path.relative_to(CONFIGS)}", "--method", record.method]
    if record.folder.name == record.method and str(record.folder.parent) != f"work_dirs/{record.config}":
        command += ["--work-dir", str(record.folder.parent)]
    return shlex.join([*command, *(["--cfg-options", *options] if options else [])])


def _word(value: Any) -> str:
    """Return a value as --cfg-options reads it."""
    return f"[{','.join(map(_word, value))}]" if isinstance(value, (list, tuple)) else str(value)
