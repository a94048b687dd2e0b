"""A process that fails; apart from the tests, so that it starts without Detectron2."""

from __future__ import annotations

import os
import signal

from pretrain.console import UserError


def fail(rank: int, how: str) -> None:
    """Fail in one of two processes, the other waiting for it as it would in a collective call."""
    if rank == 0:
        signal.pause()
    if how == "user":
        try:
            raise UserError("a worker of the data loader says the same")
        except UserError as error:
            raise UserError("run: the loss became infinite; lower SOLVER.BASE_LR") from error
    if how == "bug":
        raise KeyError("p2")
    os.kill(os.getpid(), signal.SIGKILL)
