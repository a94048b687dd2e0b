"""The log of a run: JSON lines, kept consistent across a kill and a resume, and the same for TensorBoard and W&B."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from pretrain.console import UserError
from pretrain.files import write_text

FILE_NAME = "log.jsonl"


class Logbook:
    """Appends to FOLDER/log.jsonl, FOLDER/tensorboard and, where asked for, W&B.

    Entries of steps after `step`, which a resumed run does again, are dropped.

    Args:
        folder: The run's folder.
        step: Steps done.
        wandb_project: Project at Weights & Biases; None: none.
        settings: Plain values that W&B keeps beside the run.

    Raises:
        UserError: W&B is asked for and not installed.
    """

    def __init__(
        self,
        folder: Path,
        step: int = 0,
        wandb_project: str | None = None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import, and rank 0 alone needs it

        self.path = folder / FILE_NAME
        kept = [entry for entry in read_log(folder) if entry["step"] <= step] if self.path.is_file() and step else []
        write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))
        self.wandb = _start_wandb(folder, wandb_project, settings or {}) if wandb_project else None
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, **values: Any) -> None:
        """Append {"step": step, **values} and flush."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        if self.wandb is not None:
            self.wandb.log(values, step=step)

    def picture(self, step: int, name: str, figure: Figure) -> None:
        """Show a picture in TensorBoard and W&B."""
        self.board.add_figure(name, figure, step)
        if self.wandb is not None:
            self.wandb.log({name: figure}, step=step)

    def close(self) -> None:
        """Write what is still held back."""
        self.board.close()
        if self.wandb is not None:
            self.wandb.finish()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of FOLDER/log.jsonl; a last line that a kill cut short is left out."""
    path = folder / FILE_NAME
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise UserError(f"{path}: line {number} is damaged ({error}); remove the line") from error
    return entries


def _start_wandb(folder: Path, project: str, settings: dict[str, Any]) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise UserError(
            "run.wandb is set, but wandb is not there: pip install wandb, or leave run.wandb out"
        ) from error
    identity = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]  # a resumed run goes on in the same one
    return wandb.init(project=project, dir=str(folder), id=identity, resume="allow", config=settings)
