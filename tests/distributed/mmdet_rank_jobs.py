"""What test_mmdet_ranks.py lets each rank do; called in the test's own process, on one process alone.

MMDetection takes seconds to import, so each job does it itself.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

from rank_jobs import _fabric


def fine_tune(job: Any) -> dict[str, Any]:
    """Run a whole job in the pool's group; return its results, a digest of the detector, and the pictures it saw."""
    if "RANK" in os.environ:
        _fabric()  # it leaves the group to the jobs that follow
    import transfer.mmdet.finetune as room
    from transfer.mmdet.runner import FinetuneRunner

    runners: list[FinetuneRunner] = []
    seen: list[str] = []

    class Recorded(FinetuneRunner):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            runners.append(self)

        def call_hook(self, name: str, **values: Any) -> None:
            if name == "before_train_iter":
                seen.extend(os.path.basename(sample.img_path) for sample in values["data_batch"]["data_samples"])
            super().call_hook(name, **values)

    room.FinetuneRunner = Recorded
    results = room.finetune(job)
    room.FinetuneRunner = FinetuneRunner
    digest = hashlib.sha256()
    for name, tensor in runners[0].detector.state_dict().items():
        if "running" not in name and "num_batches" not in name:  # each rank's own: BN here, SyncBN is for GPUs
            digest.update(name.encode() + tensor.numpy().tobytes())
    return {"results": results, "digest": digest.hexdigest(), "seen": seen}
