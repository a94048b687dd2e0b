"""Filling the study's cells, several at a time; each cell's record is written when its last command has ended."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import FrameType

from evidence.stages import ROOT, Stage, do, fingerprints, is_done
from evidence.study.plan import WORK, Cell, stages
from evidence.study.records import RECORDS, write_record
from pretrain.console import INTERRUPTED, UserError, tell

LARGE = ("checkpoint*", "last*", "mmdet.pth", "detection/*.pth", "*/checkpoints")  # what no later step reads


def fill(cells: list[Cell], jobs: int) -> int:
    """Fill the cells that have no record yet.

    Args:
        cells: In order.
        jobs: Cells at a time, each on one thread.

    Returns:
        How many failed; each has said why, and the others went on.

    Raises:
        SystemExit: Ctrl-C or SIGTERM; what was begun goes on by the same command.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # of the commands: two cells of one thread are faster than one of two
    todo = [cell for cell in cells if not is_filled(cell)]
    if done := len(cells) - len(todo):
        tell(f"{done} of {len(cells)} cells are filled already")
    _prepare(todo)
    started, failed, running = time.monotonic(), 0, dict[Future[float], Cell]()
    previous = signal.signal(signal.SIGTERM, _interrupt)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while todo or running:
                while todo and len(running) < jobs and (ready := _next(todo, running)) is not None:
                    todo.remove(ready)
                    running[pool.submit(_fill, ready)] = ready
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    cell = running.pop(future)
                    failed += not _report(cell, future, len(todo) + len(running), time.monotonic() - started)
        except KeyboardInterrupt:
            tell("stopping; the commands under way save their state")
            raise SystemExit(INTERRUPTED) from None
        finally:
            signal.signal(signal.SIGTERM, previous)
    return failed


def is_filled(cell: Cell) -> bool:
    """Return whether the cell has a record."""
    return (ROOT / RECORDS / f"{cell.name}.json").is_file()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _prepare(cells: list[Cell]) -> None:
    """Write the images first: cells that run side by side share them."""
    for source in {cell.source.key: cell.source for cell in cells}.values():
        cell = next(cell for cell in cells if cell.source == source)
        stage = stages(cell)[0]
        records = ROOT / WORK / "data" / f"{source.key}-stages"
        prints = fingerprints([stage])
        if not is_done(stage, records, prints[stage.name]):
            do(stage, records, prints[stage.name])


def _next(todo: list[Cell], running: dict[Future[float], Cell]) -> Cell | None:
    """Return the first cell whose needs are filled; None where it has to wait for one that runs."""
    waiting = {cell.name for cell in [*todo, *running.values()]}
    ready = next((cell for cell in todo if cell.needs not in waiting), None)
    if ready is None and not running:
        raise UserError(f"{todo[0].name}: needs {todo[0].needs}, which failed")
    return ready


def _fill(cell: Cell) -> float:
    """Run the cell's commands one after the other, write its record, and remove what nobody reads any more."""
    folder = ROOT / cell.folder
    folder.mkdir(parents=True, exist_ok=True)
    own: list[Stage] = stages(cell)
    prints = fingerprints(own)
    started = time.monotonic()
    with (folder / "commands.log").open("a", encoding="utf-8") as output:
        for stage in own[1:]:
            if not is_done(stage, folder / "stages", prints[stage.name]):
                try:
                    do(stage, folder / "stages", prints[stage.name], output)
                except UserError as error:
                    raise UserError(f"{error} ({cell.folder / 'commands.log'})") from error
    write_record(cell)
    for pattern in LARGE:
        for path in (*folder.glob(pattern), *(ROOT / cell.run).glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return time.monotonic() - started


def _report(cell: Cell, future: Future[float], left: int, elapsed: float) -> bool:
    try:
        tell(f"{cell.name}: {future.result():.0f} s; {left} cells left, {elapsed / 60:.0f} min so far")
        return True
    except UserError as error:
        print(f"{cell.name}: {error}", file=sys.stderr)
        return False


def folder_of(cell: Cell) -> Path:
    """Return where the cell's results lie."""
    return ROOT / cell.folder
