"""The pretraining runs below some folders: what each was, and what it reached."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pretrain.console import UserError
from pretrain.files import read_json

T = TypeVar("T")
RESULT, LOG = "result.json", "log.jsonl"
# What names a run, or says how conveniently it was made; the network that comes out does not depend on it.
BOOKKEEPING = {
    *("name", "run.seed", "data.prepare", "data.workers", "run.log_every", "run.checkpoint_every"),
    *("run.checkpoint_steps", "run.inspect_every", "run.wandb", "run.sharding"),
}


@dataclass(frozen=True)
class PretrainRun:
    """One finished pretraining.

    Attributes:
        folder: Where its result.json lies.
        config: Name of the config, e.g. "cifar100/r18_800ep".
        method: e.g. "automix".
        branch: The network that is the method's result, e.g. "teacher".
        seed: Of the run.
        top1, top5: Of that network, in percent, the median over the last ten epochs (Section 4.1).
        seconds: Of training.
        steps: Of the optimizer.
        settings: Everything it depended on, as `pretrain.training.settings.Settings` has it.
        environment: Versions and devices.
    """

    folder: Path
    config: str
    method: str
    branch: str
    seed: int
    top1: float
    top5: float
    seconds: float
    steps: int
    settings: dict[str, Any]
    environment: dict[str, str]


def owner_of(evaluation: Path, checkpoint: str, runs: Mapping[Path, T]) -> T | None:
    """Return the run that an evaluation lies in, or else the one that its checkpoint lies in; None where neither does.

    Args:
        evaluation: The file.
        checkpoint: What it says that it is of.
        runs: By their folders, resolved.
    """
    folders = (*evaluation.resolve().parents, *Path(checkpoint).resolve().parents)
    return next((runs[folder] for folder in folders if folder in runs), None)


def find_pretrain_runs(roots: Sequence[Path]) -> tuple[list[PretrainRun], dict[Path, str]]:
    """Read every result.json below the folders.

    Returns:
        The finished runs, in the order of their folders, and {folder: reason} for what was left out: runs that have
        not finished, and files that are no result of a pretraining.

    Raises:
        UserError: One of the folders does not exist.
    """
    runs, left_out = [], {}
    for path in find_files(roots, (RESULT, LOG)):
        if path.name == LOG:
            if not (path.parent / RESULT).exists():
                left_out[path.parent] = f"not finished: it has a {LOG} and no {RESULT}"
            continue
        try:
            runs.append(_read(path))
        except UserError as error:
            left_out[path.parent] = str(error)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            left_out[path.parent] = f"its {RESULT} is not that of a pretraining run ({type(error).__name__}: {error})"
    return runs, left_out


def find_files(roots: Iterable[Path], names: Sequence[str]) -> Iterator[Path]:
    """Yield the files of these names below the folders, in order; each once, however many folders lead to it.

    Raises:
        UserError: A folder does not exist.
    """
    known = set()
    for root in roots:
        if not root.is_dir():
            raise UserError(f"{root}: no such folder; name one that holds runs, such as work_dirs")
        for path in sorted(path for path in root.rglob("*.json*") if path.name in names):
            if path.resolve() not in known:
                known.add(path.resolve())
                yield path


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted key: {"optim.lr": 0.1, ...}."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def _read(path: Path) -> PretrainRun:
    content = read_json(path)
    branch = content["branch"]
    return PretrainRun(
        folder=path.parent,
        config=content["name"],
        method=content["method"],
        branch=branch,
        seed=int(content["settings"]["run"]["seed"]),
        top1=float(content["accuracy"][f"{branch}_top1"]),
        top5=float(content["accuracy"][f"{branch}_top5"]),
        seconds=float(content["train_seconds"]),
        steps=int(content["steps"]),
        settings=content["settings"],
        environment=content["environment"],
    )
