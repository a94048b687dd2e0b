"""One process a GPU, on one machine or several: by Detectron2's own `launch`, or inside processes that torchrun began.

What goes wrong in any of the processes comes back as one line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from torch import distributed
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from pretrain.console import UserError
from pretrain.files import write_text

FAILURE = "failure.txt"  # below the output: the traceback of a process that failed


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Attributes:
        each: Processes on one machine, one a GPU.
        machines: Number of machines.
        machine: This one, counted from 0.
        url: Where machine 0 listens, e.g. tcp://10.0.0.1:29500; "auto" on a single machine.
        rank: This process where torchrun began it, None where `launch` will begin them.
    """

    each: int = 1
    machines: int = 1
    machine: int = 0
    url: str = "auto"
    rank: int | None = None

    @property
    def world(self) -> int:
        """Number of processes of all machines."""
        return self.each * self.machines

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for the run."""
        return self.machine == 0 and not self.rank


def ranks_asked(num_gpus: int | None, num_machines: int, machine_rank: int, dist_url: str) -> Ranks:
    """Return the processes that the command line asks for, or those that torchrun has begun.

    Raises:
        UserError: The numbers do not make a run.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        if num_gpus is not None or num_machines != 1:
            raise UserError("--num-gpus and --num-machines are torchrun's business here; leave them out")
        world, each = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        rank = int(os.environ["RANK"])
        return Ranks(each, world // each, rank // each, "env://", rank)
    each = 1 if num_gpus is None else num_gpus
    if each < 1 or num_machines < 1:
        raise UserError(f"--num-gpus {each} --num-machines {num_machines}: both must be 1 or more")
    if not 0 <= machine_rank < num_machines:
        raise UserError(
            f"--machine-rank {machine_rank}: of --num-machines {num_machines} it can be 0 to {num_machines - 1}"
        )
    if num_machines > 1 and not re.fullmatch(r"tcp://[^/]+:\d+", dist_url):
        raise UserError(
            f"--dist-url {dist_url}: several machines meet at tcp://HOST:PORT, HOST being the one of --machine-rank 0"
        )
    return Ranks(each, num_machines, machine_rank, dist_url)


def require_devices(ranks: Ranks, device: str) -> None:
    """Raise a UserError where this machine has fewer GPUs than it was asked for; a CPU takes several by torchrun."""
    if device == "cpu":
        if ranks.world > 1 and ranks.rank is None:
            raise UserError(f"--num-gpus {ranks.each}: torch sees no GPU here; leave it out to train on the CPU")
    elif ranks.each > torch.cuda.device_count():
        raise UserError(f"--num-gpus {ranks.each}: torch sees {torch.cuda.device_count()} here")


def run(work: Callable[..., None], args: tuple[Any, ...], ranks: Ranks, device: str, output: Path) -> None:
    """Call work(*args) once in each process of this machine; return when all of the run are done.

    Args:
        work: An importable function.
        args: What it is called with; they can be pickled.
        ranks: The processes.
        device: "cpu" or "cuda".
        output: Takes the traceback of a process that failed in a way that no one foresaw.

    Raises:
        UserError: A process raised, or ended without a word.
    """
    if ranks.rank is not None:
        with_group(ranks, device, work, *args)
        return
    try:
        launch(work, ranks.each, ranks.machines, ranks.machine, ranks.url, args=args)
    except ProcessRaisedException as error:
        raise UserError(_in_one_line(error, output)) from error
    except ProcessExitedException as error:
        reason = f"by signal {error.signal_name}" if error.signal_name else f"with status {error.exit_code}"
        raise UserError(
            f"{output}: process {error.error_index} of this machine ended {reason} without a word (killed for want of "
            f"memory?); see {output / 'log.txt'}; the same command goes on from the last checkpoint"
        ) from error


def with_group(ranks: Ranks, device: str, work: Callable[..., None], *args: Any) -> None:
    """Call work(*args) as a rank of the process group that torchrun's environment describes.

    Detectron2's `launch` does the same in the processes that it begins; that of v0.6 refuses to without a GPU.
    """
    mine = ranks.world > 1 and not distributed.is_initialized()
    if mine:
        distributed.init_process_group("gloo" if device == "cpu" else "nccl")
    if ranks.world > 1 and comm._LOCAL_PROCESS_GROUP is None:
        for machine in range(ranks.machines):
            group = distributed.new_group(list(range(machine * ranks.each, (machine + 1) * ranks.each)))
            if machine == ranks.machine:
                comm._LOCAL_PROCESS_GROUP = group
    if device != "cpu":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    work(*args)
    if mine:
        comm._LOCAL_PROCESS_GROUP = None
        distributed.destroy_process_group()


def _in_one_line(error: ProcessRaisedException, output: Path) -> str:
    """Return the line of a child's UserError; for another error its last line, the traceback going to a file."""
    failure = str(error).strip()
    _, found, told = failure.rpartition("pretrain.console.UserError: ")
    if found:
        return told
    write_text(output / FAILURE, failure)
    last = failure.splitlines()[-1]
    return f"{output}: process {error.error_index} failed ({last}); its traceback is in {output / FAILURE}"
