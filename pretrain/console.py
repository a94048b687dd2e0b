"""What a person sees of a run: one-line errors, and progress with an estimate of the time left."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 15.0
RANK_0_FIRST_SECONDS = 10.0
DISK_IS_FULL = "the disk is full; make room and run the same command again"
LISTED = 40  # known words in a message; timm has more than a thousand names
WRONG_INPUT, RESUME_ME, INTERRUPTED = 2, 75, 130  # statuses of a command; 75 is sysexits.h's "try again"


STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # a cluster's, before it takes the machine back


class UserError(Exception):
    """Something the person at the keyboard can mend. The message says what, where, and the remedy, in one line."""


class ResumeMe(Exception):
    """The work stopped as it was asked to, with its state saved; the same command, resumed, goes on."""


def disk_is_full(error: BaseException) -> bool:
    """Return whether an error says that the disk, or the user's share of it, is full; some say it in words alone."""
    return any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT))


def did_you_mean(word: str, known: list[str]) -> str:
    """Return "; did you mean 'x'?" for the closest known word, else a list of the known ones, of many the first."""
    close = get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {first_few(sorted(known), LISTED)}"


def at_least_one(text: str) -> int:
    """Return a whole number of one or more; for argparse's `type`.

    Raises:
        ArgumentTypeError: The text is none.
    """
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise ArgumentTypeError(f"a whole number of 1 or more is needed, not {text}")


def first_few(names: Iterable[object], count: int = 3) -> str:
    """Return the first few names, for a message: "a, b, c, ..."."""
    listed = [str(name) for name in names]
    return ", ".join(listed[:count]) + (", ..." if len(listed) > count else "")


def run_tool(main: Callable[[], int | None], again: str = "goes on from here") -> NoReturn:
    """Run a command line: a UserError becomes one line on stderr and status 2, Ctrl-C status 130, ResumeMe status 75.

    A full disk is told as a UserError is. Of several processes, started by torchrun, the first speaks for those that
    meet the same error: torchrun stops the others when it ends, while they still hold their tongue. srun does not:
    there each task says its own.

    Args:
        main: The work; it returns the status.
        again: What the same command does after Ctrl-C.
    """
    first = _is_first()
    try:
        sys.exit(main() or 0)
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and not disk_is_full(error):
            raise
        if not first:
            time.sleep(RANK_0_FIRST_SECONDS)
        told = DISK_IS_FULL if isinstance(error, OSError) else error
        print(f"error: {told}", file=sys.stderr)
        sys.exit(WRONG_INPUT)
    except ResumeMe as stop:
        if first:
            print(stop, file=sys.stderr)
        sys.exit(RESUME_ME)
    except KeyboardInterrupt:
        if first:
            print(f"interrupted; the same command {again}", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _is_first() -> bool:
    """Return whether this process speaks for the others: torchrun numbers them by RANK, srun by SLURM_PROCID."""
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def tell(message: str) -> None:
    """Print one line on stderr; of several processes the first speaks."""
    if _is_first():
        print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Print a warning, as `tell` does."""
    tell(f"warning: {message}")


@contextmanager
def progress(description: str, total: int, done: int = 0, visible: bool = True) -> Iterator[Callable[..., None]]:
    """Show progress with elapsed and remaining time: a bar on a terminal, else a line every 15 seconds.

    Yields:
        advance(steps=1, note=""): counts `steps` more as done; `note` is shown behind the bar.

    Args:
        description: What is being done, a few words.
        total: Number of steps in all.
        done: Steps done in an earlier sitting; the estimate of the time left does not count them.
        visible: False shows nothing, for all processes of a run but the first.
    """
    if not visible:
        yield lambda steps=1, note="": None
        return
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(description, total=total, completed=done, note="")
            yield lambda steps=1, note="": bar.update(task, advance=steps, **({"note": note} if note else {}))
        return

    start = last = time.monotonic()
    now_done = done

    def advance(steps: int = 1, note: str = "") -> None:
        nonlocal now_done, last
        now_done += steps
        now = time.monotonic()
        if now - last >= LINE_EVERY_SECONDS or now_done >= total:
            last = now
            left = (now - start) / max(now_done - done, 1) * (total - now_done)
            print(
                f"{description}: {now_done}/{total}, {now - start:.0f} s, ETA {left:.0f} s {note}".rstrip(),
                file=sys.stderr,
                flush=True,
            )

    yield advance
