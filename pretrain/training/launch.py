"""torchrun for tools/pretrain.sh: where a process has said in one line what is wrong, that line is all one sees."""

from __future__ import annotations

import logging
import sys
from typing import NoReturn

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from pretrain.console import INTERRUPTED, WRONG_INPUT


def main() -> NoReturn:
    """Start the processes that torchrun's arguments ask for, and end with the status of the first that failed.

    A signal, such as Ctrl-C's, ends with 128 and its number, as in a shell.

    Raises:
        ChildFailedError: A process crashed; torchrun's report says which and where.
    """
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    try:
        run.main()
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode not in (WRONG_INPUT, INTERRUPTED):
            raise
        sys.exit(failure.exitcode)
    except SignalException as error:
        sys.exit(128 + error.sigval)
    sys.exit(0)


if __name__ == "__main__":
    main()
