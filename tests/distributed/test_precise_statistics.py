"""Two processes over gloo: BatchNorm statistics that differ between the ranks become one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from transfer.d2.hooks import average_running_statistics


def rank_main(rank: int, rendezvous: str) -> None:
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    norm = nn.BatchNorm2d(2)
    norm.running_mean += torch.tensor([1.0, 10.0]) * rank
    norm.running_var *= 1 + 2 * rank
    average_running_statistics(nn.Sequential(norm))
    assert norm.running_mean.tolist() == [0.5, 5.0]
    assert norm.running_var.tolist() == [2.0, 2.0]
    distributed.destroy_process_group()


@pytest.mark.slow
def test_running_statistics_are_averaged(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(rank_main, args=(f"file://{tmp_path}/rendezvous",), nprocs=2)
