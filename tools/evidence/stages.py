"""Stages of a chain: the commands a user would type, each done once and remembered.

A stage is done while its command, the configs it names and the stages it needs are the same. Of a config its values
count, and those of the configs it inherits from; notes and comments in Python files do not, and of the settings that it
has for several methods those of the one that the command names.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from rich.console import Console

from pretrain.console import INTERRUPTED, UserError
from pretrain.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
# glibc gives large blocks back to the system at once and gets them anew at every step: a sixth of a training on the CPU
# (docs/performance.md). With these it keeps them; other systems know no such variables.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class Stage:
    """One command.

    Attributes:
        name: Of its record.
        title: What it does, for people.
        command: Its words; "python" stands for this interpreter. Paths are relative to the repository.
        makes: The file that is there when the command has succeeded.
        needs: Names of the stages whose output it reads.
    """

    name: str
    title: str
    command: tuple[str, ...]
    makes: Path
    needs: tuple[str, ...] = ()


def fingerprints(stages: Sequence[Stage]) -> dict[str, str]:
    """Return for each stage, by name, the digest of its command, of the configs it names, and of what it needs."""
    found: dict[str, str] = {}
    for stage in stages:
        configs = [ROOT / word for word in stage.command if word.startswith("configs/")]
        parts = [
            stage.command,
            [part for path in configs if path.is_file() for part in _contents(path, stage.command)],
            [found[name] for name in stage.needs],
        ]
        found[stage.name] = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return found


def is_done(stage: Stage, records: Path, fingerprint: str) -> bool:
    """Return whether the stage was done as it stands now, and what it makes is there."""
    before = _before(stage, records)
    return bool(before) and before["fingerprint"] == fingerprint and before["done"] and (ROOT / stage.makes).is_file()


def begun_otherwise(stage: Stage, records: Path, fingerprint: str) -> bool:
    """Return whether the stage was begun or done by another command, or with other values of its configs."""
    before = _before(stage, records)
    return bool(before) and before["fingerprint"] != fingerprint


def do(stage: Stage, records: Path, fingerprint: str, output: IO[str] | None = None) -> float:
    """Run a stage and write its record, before and after; its seconds count over all sittings.

    Args:
        stage: What to run.
        records: Folder of the records.
        fingerprint: The stage's, of `fingerprints`.
        output: What the command prints goes there; None: to this process's own.

    Returns:
        Its seconds.

    Raises:
        UserError: The command failed, or did not leave what it makes.
        SystemExit: Ctrl-C, status 130. The command has said so itself.
    """
    before = _before(stage, records)
    begun = bool(before) and before["fingerprint"] == fingerprint and not before["done"]
    earlier = before["seconds"] if begun else 0.0
    record = records / f"{stage.name}.json"
    entry = {"title": stage.title, "command": shlex.join(stage.command), "fingerprint": fingerprint}
    write_json(record, {**entry, "done": False, "seconds": earlier})
    started = time.monotonic()
    status = _call(stage.command, output)
    done = status == 0 and (ROOT / stage.makes).is_file()
    seconds = earlier + time.monotonic() - started
    write_json(record, {**entry, "done": done, "seconds": seconds})
    if status == INTERRUPTED:
        raise SystemExit(INTERRUPTED)
    if not done:
        why = f"ended with status {status}" if status else f"left no {stage.makes}"
        raise UserError(f"stage '{stage.name}' {why}; mend what it names above and type the same command again")
    return seconds


def run(stages: Sequence[Stage], records: Path) -> None:
    """Run every stage that is not done yet, one after the other, and say so on stderr.

    A stage that was stopped goes on where it was.

    Raises:
        UserError: A command failed; what was done before it is kept.
        SystemExit: Ctrl-C, status 130; likewise.
    """
    console = Console(stderr=True, highlight=False)
    prints = fingerprints(stages)
    for number, stage in enumerate(stages, start=1):
        heading = f"[{number}/{len(stages)}] {stage.title}"
        if is_done(stage, records, prints[stage.name]):
            console.print(f"{heading}: done already", style="dim")
            continue
        console.print(f"\n{heading}", style="bold", markup=False)
        console.print(f"$ {shlex.join(stage.command)}", style="cyan", markup=False, soft_wrap=True)
        seconds = do(stage, records, prints[stage.name])
        console.print(f"{stage.title}: {seconds:.0f} s", style="green", markup=False)


def terminate() -> None:
    """Ask the commands under way, which other threads wait for, to save their state and end."""
    for process in tuple(_running):
        process.terminate()


def _contents(path: Path, command: Sequence[str]) -> list[str]:
    """Return what counts of a config and of those that it inherits from: mmengine's `_base_`, Detectron2's `_BASE_`."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        bases = re.findall(r"""^_BASE_:\s*["']?([^"'\s]+)""", text, re.MULTILINE)
        return [text, *(part for base in bases for part in _contents(path.parent / base, command))]
    module = ast.parse(text)
    if ast.get_docstring(module) is not None:
        module.body = module.body[1:]
    bases = []
    for node in module.body:
        name = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
        if isinstance(node, ast.Assign) and name == "_base_":
            found = ast.literal_eval(node.value)
            bases = [found] if isinstance(found, str) else list(found)
        if isinstance(node, ast.Assign) and name == "methods" and isinstance(node.value, ast.Call):
            node.value.keywords = [entry for entry in node.value.keywords if entry.arg in command]
    return [ast.unparse(module), *(part for base in bases for part in _contents(path.parent / base, command))]


def _before(stage: Stage, records: Path) -> dict[str, Any]:
    record = records / f"{stage.name}.json"
    found: dict[str, Any] = read_json(record) if record.is_file() else {}
    return found


def _call(command: tuple[str, ...], output: IO[str] | None) -> int:
    """Run a command in the repository's folder and return its status.

    Ctrl-C reaches the command as well; it is left the time to clean up behind itself.
    """
    words = [sys.executable if word == "python" else word for word in command]
    environment = {**ALLOCATOR, **os.environ, "PYTHON": sys.executable}
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=output, stderr=output) as process:
        _running.add(process)
        while True:
            try:
                status = process.wait()
            except KeyboardInterrupt:
                continue
            _running.discard(process)
            return INTERRUPTED if status == -signal.SIGINT else status  # -SIGINT: stopped before it could answer
