"""Stopping at a step boundary when a cluster asks for it: SIGTERM, or SLURM's SIGUSR1 some minutes before the end."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

import torch
from lightning_fabric import Fabric

from pretrain.console import STOP_SIGNALS


class StopRequest:
    """While it is entered, a signal of `STOP_SIGNALS` is noted instead of ending the process."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopRequest:
        for number in STOP_SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)

    def agreed(self, fabric: Fabric) -> bool:
        """Return whether any process was asked to stop; all have to call this at the same step."""
        asked = float(self.signal is not None)
        if fabric.world_size > 1:
            asked = torch.as_tensor(
                fabric.all_reduce(torch.tensor(asked, device=fabric.device), reduce_op="sum")
            ).item()
        return asked > 0
