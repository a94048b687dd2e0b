"""The log of a run: one JSON object a line, kept consistent across a kill and a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pretrain.console import UserError
from pretrain.files import write_text

FILE_NAME = "log.jsonl"


class Logbook:
    """Appends to FOLDER/log.jsonl; entries of steps after `step`, which a resumed run does again, are dropped."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        self.path = folder / FILE_NAME
        kept = [entry for entry in read_log(folder) if entry["step"] <= step] if self.path.is_file() and step else []
        write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))

    def write(self, step: int, **values: Any) -> None:
        """Append {"step": step, **values} and flush."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


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
