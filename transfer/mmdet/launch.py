"""One process a GPU, begun by torchrun or by srun; without GPUs they meet over gloo."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning_fabric.plugins.environments import SLURMEnvironment
from torch import distributed

from pretrain.console import UserError

FIRST_PORT = 15000  # of those at which the processes of a SLURM job may meet


@dataclass(frozen=True)
class Ranks:
    """The processes of a run.

    Attributes:
        rank: This process, counted from 0.
        world: Number of processes.
    """

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks for the run."""
        return self.rank == 0


def chosen_launcher(asked: str | None) -> str:
    """Return the launcher that was asked for; without any, "pytorch" within torchrun, else "none".

    Raises:
        UserError: The launcher did not begin this process, or one did that was not asked for: each process would
            train the whole for itself, all of them in the same folder.
    """
    torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    launcher = asked or ("pytorch" if torchrun else "none")
    if launcher == "none" and (torchrun or tasks > 1):
        name = "pytorch" if torchrun else "slurm"
        raise UserError(f"--launcher none, but {'torchrun' if torchrun else 'srun'} began this process; {name} it is")
    if launcher == "pytorch" and not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= set(os.environ):
        raise UserError("--launcher pytorch: start it by torchrun --nproc-per-node GPUS tools/finetune_mmdet.py ...")
    if launcher == "slurm" and not {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"} <= set(os.environ):
        raise UserError("--launcher slurm: start it by srun, one task a GPU: srun python tools/finetune_mmdet.py ...")
    return launcher


@contextmanager
def process_group(launcher: str) -> Iterator[Ranks]:
    """Join the process group of the run for the length of the block, and choose this process's GPU.

    mmengine would do both, but asks for a GPU by its number also where there is none.
    """
    if launcher == "none":
        yield Ranks()
        return
    if launcher == "slurm":
        _environment_of_slurm()
    rank, world, local = (int(os.environ[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    gpus = torch.cuda.device_count()
    if gpus and local >= gpus:
        raise UserError(f"process {local} of this machine has no GPU of its own: torch sees {gpus}")
    if gpus:
        torch.cuda.set_device(local)
    mine = not distributed.is_initialized()
    if mine:
        distributed.init_process_group("nccl" if gpus else "gloo")
    try:
        yield Ranks(rank, world)
    finally:
        if mine:
            distributed.destroy_process_group()


def _environment_of_slurm() -> None:
    """Say in torch's words what srun says in its own; the first host of the job is where the processes meet."""
    own = {"RANK": "SLURM_PROCID", "WORLD_SIZE": "SLURM_NTASKS", "LOCAL_RANK": "SLURM_LOCALID"}
    os.environ.update({name: os.environ[theirs] for name, theirs in own.items()})
    hosts = os.environ.get("SLURM_STEP_NODELIST") or os.environ.get("SLURM_NODELIST") or "127.0.0.1"
    os.environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(hosts))
    port = FIRST_PORT + int(os.environ.get("SLURM_JOB_ID", "0")[-4:])  # two jobs on one machine rarely share it
    os.environ.setdefault("MASTER_PORT", str(port))
