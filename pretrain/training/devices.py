"""The processes of a run: how they start, and how they share their gradients."""

from __future__ import annotations

import inspect
import os
import platform
from collections.abc import Iterable, Mapping
from typing import Any

import lightning_fabric
import timm
import torch
import torchvision
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.nn.parallel import DistributedDataParallel

from pretrain.console import UserError
from pretrain.training.sharding import is_sharded


def launch_fabric(precision: str) -> Fabric:
    """Return a Fabric for this process: alone, or one of those that torchrun or SLURM started.

    Raises:
        UserError: Of a SLURM job's tasks Fabric would make no group; see `_nodes_and_devices`.
    """
    nodes, devices = _nodes_and_devices(os.environ)
    # Batch-norm statistics stay each rank's own, as in the authors' code. Newer versions of torch rename the argument.
    arguments = inspect.signature(DistributedDataParallel).parameters
    own_statistics = "forward_sync_buffers" if "forward_sync_buffers" in arguments else "broadcast_buffers"
    options: dict[str, Any] = {own_statistics: False}
    strategy = DDPStrategy(**options) if devices * nodes > 1 else "auto"
    fabric = Fabric(accelerator="auto", devices=devices, num_nodes=nodes, strategy=strategy, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


def _nodes_and_devices(env: Mapping[str, str]) -> tuple[int, int]:
    """Return the number of nodes and of processes on each, which torchrun or srun started; 1 and 1 of one alone.

    In a job named "bash" or "interactive", salloc's default, Fabric takes a process for one alone.

    Raises:
        UserError: A SLURM job of several tasks, and srun did not start this one; or Fabric would not know them for one
            group, by the job's name or because the nodes have not the same number of tasks.
    """
    if "LOCAL_WORLD_SIZE" in env:
        return int(env["GROUP_WORLD_SIZE"]), int(env["LOCAL_WORLD_SIZE"])
    nodes, each = int(env.get("SLURM_NNODES", 1)), int(env.get("SLURM_NTASKS_PER_NODE", 1))
    tasks, in_step = int(env.get("SLURM_NTASKS", nodes * each)), int(env.get("SLURM_STEP_NUM_TASKS", 0))
    name = env.get("SLURM_JOB_NAME", "")
    if name in ("bash", "interactive"):
        if in_step > 1:
            raise UserError(
                f"{in_step} tasks of a SLURM job named '{name}' would train apart; give another name: "
                "srun env SLURM_JOB_NAME=pretrain tools/pretrain.sh CONFIG"
            )
        return 1, 1
    if tasks > 1 and not in_step:
        raise UserError(f"a SLURM job of {tasks} tasks: start each of them, srun tools/pretrain.sh CONFIG")
    if tasks != nodes * each or (tasks > 1 and "SLURM_NTASKS_PER_NODE" not in env):
        raise UserError(
            f"SLURM started {tasks} tasks on {nodes} nodes; say how many on each, and no total: "
            "srun --nodes=N --ntasks-per-node=GPUS tools/pretrain.sh CONFIG"
        )
    return nodes, each


def average_gradients(parameters: Iterable[nn.Parameter], fabric: Fabric) -> None:
    """Replace every gradient by its mean over the processes, with one exchange for all of them.

    DDP would exchange them during a backward pass, and allows one of those a step; a step here makes one for each
    branch. Processes have to agree on which parameters have a gradient. FSDP has averaged those in shards already.
    """
    gradients = [p.grad for p in parameters if p.grad is not None and not is_sharded(p.grad)]
    if fabric.world_size == 1 or not gradients:
        return
    flat = torch.as_tensor(fabric.all_reduce(_flatten_dense_tensors(gradients), reduce_op="mean"))
    torch._foreach_copy_(gradients, list(_unflatten_dense_tensors(flat, gradients)))


@torch.no_grad()
def average_statistics(module: nn.Module, fabric: Fabric) -> None:
    """Replace every buffer of floats, such as a batch norm's statistics, by its mean over the processes.

    Each process sees other images. What is evaluated and exported has to be one network.
    """
    buffers = _float_buffers(module)
    if fabric.world_size > 1 and buffers:
        flat = torch.as_tensor(fabric.all_reduce(_flatten_dense_tensors(buffers), reduce_op="mean"))
        torch._foreach_copy_(buffers, list(_unflatten_dense_tensors(flat, buffers)))


def gather_statistics(module: nn.Module, fabric: Fabric) -> Tensor:
    """Return every process's buffers of floats, (processes, n), for the training state of the whole run."""
    buffers = _float_buffers(module)
    return gather(_flatten_dense_tensors(buffers) if buffers else torch.zeros(0, device=fabric.device), fabric)


def gather(values: Tensor, fabric: Fabric) -> Tensor:
    """Return the (n,) of every process as (processes, n), on the CPU."""
    if fabric.world_size == 1:
        return values[None].cpu()
    rows = [torch.empty_like(values) for _ in range(fabric.world_size)]
    distributed.all_gather(rows, values)  # Fabric's warns that torch will drop what it calls
    return torch.stack(rows).cpu()


@torch.no_grad()
def restore_statistics(module: nn.Module, gathered: Tensor, fabric: Fabric) -> None:
    """Put back what `gather_statistics` returned; a run of another number of processes gets the first one's."""
    buffers = _float_buffers(module)
    rank = fabric.global_rank if len(gathered) == fabric.world_size else 0
    for buffer, value in zip(buffers, _unflatten_dense_tensors(gathered[rank], buffers), strict=True):
        buffer.copy_(value)


def _float_buffers(module: nn.Module) -> list[Tensor]:
    return [buffer for buffer in module.buffers() if buffer.is_floating_point()]


def environment(fabric: Fabric) -> dict[str, str]:
    """Return the versions and the device that a run depends on."""
    device = torch.cuda.get_device_name(fabric.device) if fabric.device.type == "cuda" else fabric.device.type
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "lightning-fabric": lightning_fabric.__version__,
        "device": f"{fabric.world_size} x {device}",
    }
