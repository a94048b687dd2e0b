"""A pool of two processes, ranks 0 and 1 of one gloo group on the CPU, for tests that need more than one process."""

import faulthandler
import multiprocessing
import os
import signal
import socket
import traceback
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import suppress
from itertools import count

import torch

RANKS = 2
PORTS = count(97 * os.getpid())  # processes that test at once begin far from each other


class TwoRanks:
    """Starts the two processes when they are first needed; they serve one job after the other.

    Fabric's launch inside a job joins the group; in a later job, with another Fabric, it finds the group there. After
    a job that failed the ranks are no longer at the same place, so the next job gets new processes.
    """

    def __init__(self):
        self.workers, self.pids = [], []

    def run(self, job, *arguments, seconds=300):
        """Call job(*arguments), a function of an importable module, on both ranks at once; return both results.

        Raises:
            AssertionError: A rank raised or died, or the job took longer than `seconds`: then each rank writes to
                stderr where it hangs, and ends. The message holds the traceback of every rank that failed.
        """
        if not self.workers:
            self._start()
        futures = [worker.submit(_call, seconds, job, *arguments) for worker in self.workers]
        wait(futures, seconds + 30, FIRST_EXCEPTION)
        if not all(future.done() for future in futures):
            wait(futures, 1)  # one rank failed: the other may be about to say why too, or waits for it for ever
        if all(future.done() and future.exception() is None for future in futures):
            return [future.result() for future in futures]
        self.stop(kill=True)  # a future that was not done ends with an exception now
        said = {}  # ranks often fail alike
        for rank, future in enumerate(futures):
            if future.exception() is not None:
                said.setdefault("".join(traceback.format_exception(future.exception())), []).append(rank)
        reports = [f"on ranks {ranks}:\n{text}" for text, ranks in said.items()]
        raise AssertionError("\n".join([f"{job.__name__}{arguments} failed", *reports]))

    def stop(self, kill=False):
        """End the processes, at once where they may hang."""
        for pid in self.pids if kill else []:
            with suppress(ProcessLookupError):  # it has ended already
                os.kill(pid, signal.SIGKILL)
        for worker in self.workers:
            worker.shutdown(wait=False)
        for worker in self.workers:
            worker.shutdown()
        self.workers, self.pids = [], []

    def _start(self):
        port, context = free_port(), multiprocessing.get_context("spawn")
        self.workers = [
            ProcessPoolExecutor(1, mp_context=context, initializer=_become_rank, initargs=(rank, port))
            for rank in range(RANKS)
        ]
        self.pids = [future.result(timeout=300) for future in [worker.submit(os.getpid) for worker in self.workers]]


def free_port():
    """Return a TCP port of this machine that nobody listens on, another one each time.

    It is none of those that the system hands out to whoever asks for any (from 32768 on): seconds go by until it is
    used, in which the other tests connect processes too.
    """
    while True:
        port = 25000 + next(PORTS) % 7000
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def _become_rank(rank, port):
    """Set what torchrun would set on one machine without GPUs."""
    local = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": RANKS, "LOCAL_WORLD_SIZE": RANKS}
    group = {"GROUP_RANK": 0, "GROUP_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    once = {"TORCHELASTIC_RUN_ID": "tests", "OMP_NUM_THREADS": 1, "CUDA_VISIBLE_DEVICES": ""}
    os.environ.update({name: str(value) for name, value in {**local, **group, **once}.items()})
    torch.set_num_threads(1)


def _call(seconds, job, *arguments):
    """Run a job in a worker; one that hangs ends its process, having written where it hung."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        return job(*arguments)
    finally:
        faulthandler.cancel_dump_traceback_later()
