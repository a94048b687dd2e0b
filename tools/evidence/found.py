"""What lies below the folders that were asked for, and which pretraining is which cell's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from evidence.paper import Training
from evidence.runs import BOOKKEEPING, PretrainRun, find_files, find_pretrain_runs, flat
from pretrain.console import UserError, first_few
from pretrain.files import read_json

# Where the images lie, and how the network was computed: the paper's figure does not depend on it either.
FREE = BOOKKEEPING | {"data.root", "run.channels_last", "run.compile"}


class Found:
    """The pretraining runs below some folders, read once for all tables.

    Args:
        roots: Folders that exist.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = roots
        self.runs, self.left_out = find_pretrain_runs(roots)
        self._published: dict[tuple[str, str], dict[str, Any]] = {}

    def files(self, name: str) -> list[Path]:
        """Return the files of this name."""
        return list(find_files(self.roots, (name,)))

    def of(self, training: Training) -> list[PretrainRun]:
        """Return the runs that have the training's name and method, whatever their settings."""
        names = {training.name, training.alias or training.name}
        return [run for run in self.runs if run.config in names and run.method == training.method]

    def fitting(self, training: Training) -> dict[int, PretrainRun]:
        """Return {seed: run} of the runs with the published settings; of two with the same seed the newer one."""
        runs = [run for run in self.of(training) if not self.departures(run, training)]
        return {run.seed: run for run in sorted(runs, key=_written)}

    def departures(self, run: PretrainRun, training: Training) -> str:
        """Return in words how the run's settings differ from the published ones, "" where they do not.

        A setting that the toolkit got after the run has its default.
        """
        from pretrain.training.settings import load_settings  # late: it brings torch

        if training.key not in self._published:
            published = load_settings(training.path, training.changes, training.method)
            self._published[training.key] = flat(asdict(published))
        published_settings = self._published[training.key]
        try:
            settings = flat(_completed(run.settings))
        except ValueError as error:
            return f"its settings are none of this version ({str(error).splitlines()[0]})"
        differing = [
            f"{key} {settings.get(key)} instead of {published_settings.get(key)}"
            for key in sorted({*settings, *published_settings} - FREE)
            if settings.get(key) != published_settings.get(key)
        ]
        return f"departs: {first_few(differing, 5)}" if differing else ""

    def not_counted(self, training: Training) -> dict[Path, str]:
        """Return {folder: reason} of the training's runs that `fitting` leaves out."""
        counted = self.fitting(training)
        reasons = {}
        for run in self.of(training):
            if departs := self.departures(run, training):
                reasons[run.folder] = f"{training.name} by {training.method} {departs}"
            elif counted[run.seed] is not run:
                newer = counted[run.seed].folder
                reasons[run.folder] = f"seed {run.seed} of {training.name} by {training.method} again; {newer} is newer"
        return reasons

    @cached_property
    def exported(self) -> dict[str, PretrainRun]:
        """{digest of an exported network: its run}."""
        found = {}
        for run in self.runs:
            for card in sorted((run.folder / "export").glob("*.json")):
                found[str(read_json(card).get("sha256", ""))] = run
        return {digest: run for digest, run in found.items() if digest}

    def training_of(self, digest: str, training: Training) -> tuple[PretrainRun | None, str]:
        """Return the run whose exported network has this digest, and why it is not the training's, "" where it is."""
        run = self.exported.get(digest)
        if run is None:
            return None, f"the pretraining of its weights ({digest[:12] or 'no digest'}) is not below the folders"
        if run not in self.of(training):
            return run, f"its weights are of {run.config} by {run.method}, not of {training.name} by {training.method}"
        departs = self.departures(run, training)
        return run, f"the pretraining of its weights, {run.folder}, {departs}" if departs else ""


def _completed(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with the defaults of those that a run of an older version lacks.

    Raises:
        ValueError: A setting is unknown, or of another kind (pydantic's ValidationError is one).
    """
    from pydantic import TypeAdapter

    from pretrain.training.settings import Settings

    return asdict(TypeAdapter(Settings).validate_python(settings))


def _written(run: PretrainRun) -> float:
    return (run.folder / "result.json").stat().st_mtime


def existing(folders: Sequence[Path] | None, default: Path = Path("work_dirs")) -> list[Path]:
    """Return the folders; where none was named the default, if it is there.

    Raises:
        UserError: A named folder does not exist.
    """
    if folders is None:
        return [default] if default.is_dir() else []
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"--runs {folder}: no such folder; name one that holds runs, such as {default}")
    return list(folders)
