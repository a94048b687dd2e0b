"""Filling the study's cells, several at a time; each cell's record is written when its last command has ended."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import FrameType

from evidence.stages import ROOT, Stage, begun_otherwise, do, fingerprints, is_done, terminate
from evidence.study.plan import WORK, Cell, stages
from evidence.study.records import RECORDS, fingerprint_of, write_record
from pretrain.console import INTERRUPTED, UserError, tell
from pretrain.files import read_json

LARGE = ("state*.pth", "mmdet.pth", "detection/*.pth")  # what nobody reads once the cell is filled


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
        tell(f"filled already: {done} of {len(cells)}")
    _prepare(todo)
    total, started, filled = len(todo), time.monotonic(), 0
    running: dict[Future[float], Cell] = {}
    stopping = threading.Event()
    previous = signal.signal(signal.SIGTERM, _stop)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while todo or running:
                while len(running) < jobs and (cell := _next(todo)):
                    todo.remove(cell)
                    running[pool.submit(_fill, cell, stopping)] = cell
                if not running:  # what is left waits for cells that failed or were not asked for
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    filled += _report(running.pop(future), future, len(todo) + len(running), started)
        except KeyboardInterrupt:
            stopping.set()
            tell("stopping: the commands under way save their state; the same command goes on from there")
            raise SystemExit(INTERRUPTED) from None
        except SystemExit:  # a command was stopped by itself, as by kill
            stopping.set()
            terminate()
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)
    for cell in todo:
        assert cell.needed is not None
        tell(f"{cell.name}: left out, since it needs {cell.needed.name}, which is not filled; fill that first")
    return total - filled


def is_filled(cell: Cell) -> bool:
    """Return whether the cell has a record of the commands and configs that there are now."""
    path = ROOT / RECORDS / f"{cell.name}.json"
    content = read_json(path) if path.is_file() else None
    return isinstance(content, dict) and content.get("fingerprint") == fingerprint_of(cell)


def _stop(number: int, frame: FrameType | None) -> None:
    """Answer SIGTERM, which unlike Ctrl-C reaches this process alone."""
    terminate()
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


def _next(todo: list[Cell]) -> Cell | None:
    """Return the first cell whose needs are filled; None where there is none."""
    return next((cell for cell in todo if cell.needed is None or is_filled(cell.needed)), None)


def _fill(cell: Cell, stopping: threading.Event) -> float:
    """Run the cell's commands one after the other, write its record, and remove what nobody reads any more."""
    folder = ROOT / cell.folder
    own: list[Stage] = stages(cell)
    prints = fingerprints(own)
    if begun_otherwise(own[1], folder / "stages", prints[own[1].name]):
        tell(f"{cell.name}: trained with other settings before; filled anew")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with (folder / "commands.log").open("a", encoding="utf-8") as output:
        for stage in own[1:]:
            if stopping.is_set():
                raise SystemExit(INTERRUPTED)
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


def _report(cell: Cell, future: Future[float], left: int, started: float) -> bool:
    """Say how a cell ended, and return whether it is filled."""
    try:
        minutes = (time.monotonic() - started) / 60
        tell(f"{cell.name}: {future.result():.0f} s; {left} left, {minutes:.0f} min so far")
        return True
    except UserError as error:
        tell(f"{cell.name}: {error}")
        return False
