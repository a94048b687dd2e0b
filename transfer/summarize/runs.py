"""The results.json of detection runs, read and sorted into groups that may be averaged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain.console import UserError
from pretrain.files import read_json

FIGURES = ("AP", "AP50", "AP75")
BRANCHES = ("teacher", "student")
# What names a run, or says where and how conveniently it ran; the detector that comes out does not depend on it.
OF_THE_MACHINE = {
    *("SEED", "OUTPUT_DIR", "VERSION", "VIS_PERIOD", "CUDNN_BENCHMARK", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS"),
    *("SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD"),
    *("train_dataloader.num_workers", "val_dataloader.num_workers", "val_dataloader.persistent_workers"),
    "train_cfg.val_interval",
}


@dataclass(frozen=True)
class Run:
    """One finished fine-tuning.

    Attributes:
        path: Its results.json.
        framework: With its version, e.g. "Detectron2 0.6".
        config: Name of the config.
        start: What the backbone started from, e.g. "automix teacher" or "random".
        seed: Of the fine-tuning.
        pretraining: Digest of the pretrained weights; "" for a random start.
        figures: {"AP", "AP50", "AP75"} in percent; NaN where it could not be computed.
        settings: {key: value as JSON} of what decides the outcome besides config, start and seed.
    """

    path: Path
    framework: str
    config: str
    start: str
    seed: int
    pretraining: str
    figures: dict[str, float]
    settings: dict[str, str]

    @property
    def method(self) -> str:
        """The pretraining method: the start without the branch of the network."""
        return method_of(self.start)

    @property
    def group(self) -> tuple[Any, ...]:
        """What runs must share to stand in one table."""
        return self.framework, self.config, tuple(sorted(self.settings.items()))


def method_of(start: str) -> str:
    """Return "automix" for "automix teacher"."""
    *words, last = start.lower().split()
    return " ".join(words) if words and last in BRANCHES else " ".join([*words, last])


def read_runs(paths: Iterable[str | Path]) -> tuple[list[Run], dict[Path, str]]:
    """Read files, and every results.json below folders.

    Returns:
        The runs, and {file: reason} for what was found in a folder but cannot be used: other results, and runs whose
        settings changed in the middle, so that their figures belong to no settings.

    Raises:
        UserError: A path is missing, a named file is no detection result, nothing is left, or a seed was run twice
            from the same weights with the same settings.
    """
    found: dict[Path, bool] = {}
    for path in map(Path, paths):
        if path.is_dir():
            below = sorted(path.rglob("results.json"))
            if not below:
                raise UserError(f"{path}: no results.json below this folder; has a run finished?")
            for file in below:
                found.setdefault(file, False)
        else:
            found[path] = True
    files = {path.resolve(): (path, named) for path, named in found.items()}  # a file counts once, however it is named
    runs, left_out = [], {}
    for path, named in files.values():
        content = read_json(path)
        try:
            run = _run(path, content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if named:
                raise UserError(f"{path}: not the results.json of a detection run ({_lacking(content)})") from error
            left_out[path] = "not the result of a detection run"
            continue
        changed = [key for key in content.get("changed_on_resume", []) if key not in OF_THE_MACHINE]
        if changed:
            left_out[path] = f"{', '.join(changed)} changed in the middle of the run (--resume)"
        else:
            runs.append(run)
    if not runs:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in left_out.items())
        raise UserError(f"no detection run to summarise ({reasons})")
    _refuse_twice(runs)
    return runs, left_out


def _lacking(content: Any) -> str:
    if not isinstance(content, dict):
        return "it holds no object"
    lacking = [key for key in ("framework", "config", "start", "seed", *FIGURES, "iterations") if key not in content]
    return f"it lacks {', '.join(lacking)}" if lacking else "a value is of the wrong kind"


def _run(path: Path, content: dict[str, Any]) -> Run:
    """Take from a results.json what a table needs."""
    settings = {key: json.dumps(value) for key, value in content.get("settings", {}).items()}
    settings["iterations"] = str(int(content["iterations"]))
    figures = {name: math.nan if content[name] is None else float(content[name]) for name in FIGURES}
    if not content["start"].strip():
        raise ValueError("a start without a name")
    return Run(
        path=path,
        framework=str(content["framework"]),
        config=Path(content["config"]).stem,
        start=content["start"],
        seed=int(content["seed"]),
        pretraining=content.get("backbone_sha256") or content.get("weights_sha256", ""),
        figures={name: value if math.isfinite(value) else math.nan for name, value in figures.items()},
        settings={key: value for key, value in settings.items() if key not in OF_THE_MACHINE},
    )


def _refuse_twice(runs: Iterable[Run]) -> None:
    """Raise a UserError where two files hold the same run."""
    known: dict[tuple[Any, ...], Path] = {}
    for run in runs:
        key = (run.group, run.start, run.pretraining, run.seed)
        if key in known:
            raise UserError(
                f"{run.path}: a second run of seed {run.seed} from the same weights ({run.start}), besides "
                f"{known[key]}; name each once"
            )
        known[key] = run.path
