"""What test_d2_ranks.py lets each rank do; called in the test's own process, on one process alone.

Detectron2 takes seconds to import, so each job does it itself.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

import torch
from rank_jobs import _fabric
from torch import Tensor, nn

BATCHES = [(3, 0.0), (5, 4.0), (2, -3.0), (7, 1.0)]  # number of pictures and their mean: no two batches alike


def batches() -> list[Tensor]:
    """Return batches of (n, 3, 8, 8)."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(n, 3, 8, 8, generator=generator) * (1 + n) + mean for n, mean in BATCHES]


def precise_statistics() -> dict[str, Tensor]:
    """Return the statistics that PreciseBN leaves after this rank's share of the batches; alone, after all of them."""
    from transfer.d2.hooks import PreciseStatistics

    rank, world = 0, 1
    if "RANK" in os.environ:
        fabric = _fabric()
        rank, world = fabric.global_rank, fabric.world_size
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False))
    mine = batches()[rank::world]
    PreciseStatistics(0, network, mine, len(mine), advance=lambda *_, **__: None).update_stats()
    return {name: tensor for name, tensor in network.named_buffers() if "running" in name}


def fine_tune(job: Any) -> dict[str, Any]:
    """Run a whole job in the pool's group; return its results, a digest of the detector, and the pictures it saw."""
    _fabric()  # it leaves the group to the jobs that follow
    import transfer.d2.finetune as room
    from transfer.d2.trainer import Trainer

    trainers: list[Trainer] = []
    seen: list[str] = []

    class Recorded(Trainer):
        def __init__(self, cfg: Any) -> None:
            super().__init__(cfg)
            trainers.append(self)
            forward = self.model.forward

            def recorded(pictures: Any) -> Any:
                if self.model.training and torch.is_grad_enabled():
                    seen.extend(picture["file_name"] for picture in pictures)
                return forward(pictures)

            self.model.forward = recorded

    room.Trainer = Recorded
    results = room.finetune(job)
    digest = hashlib.sha256()
    [trainer] = trainers
    for name, tensor in room._bare(trainer.model).state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return {"results": results, "digest": digest.hexdigest(), "seen": seen}
