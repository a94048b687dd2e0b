"""torchrun for tools/pretrain.sh: where a process has said in one line what is wrong, that line is all one sees."""

from __future__ import annotations

import logging
import signal
import sys
from types import FrameType
from typing import NoReturn

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from pretrain.console import INTERRUPTED, RESUME_ME, STOP_SIGNALS, WRONG_INPUT


def main() -> NoReturn:
    """Start the processes that torchrun's arguments ask for, and end with the status of the first that failed.

    SIGTERM and SIGUSR1 are handed on to the processes, which save their state within torchrun's 30 seconds; the status
    then says "resume me". Another signal, such as Ctrl-C's, ends with 128 and its number, as in a shell.

    Raises:
        ChildFailedError: A process crashed; torchrun's report says which and where.
    """
    for part in ("multiprocessing.api", "agent.server.api"):  # they report what the processes say themselves
        logging.getLogger(f"torch.distributed.elastic.{part}").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGUSR1, _hand_on)  # torchrun knows SIGTERM already
    try:
        run.main()
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode not in (WRONG_INPUT, RESUME_ME, INTERRUPTED):
            raise
        sys.exit(failure.exitcode)
    except SignalException as error:
        sys.exit(RESUME_ME if error.sigval in STOP_SIGNALS else 128 + error.sigval)
    sys.exit(0)


def _hand_on(number: int, frame: FrameType | None) -> NoReturn:
    """Stop torchrun in the way of its own signals: it sends the signal to every process and waits for them."""
    raise SignalException(f"signal {number}", sigval=signal.Signals(number))


if __name__ == "__main__":
    main()
