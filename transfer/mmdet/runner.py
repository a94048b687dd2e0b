"""mmengine's Runner with whole files, exact weights, an exact resume, and a quiet terminal."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mmengine.dist import get_rank
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner
from torch import nn

from pretrain.files import atomic_path
from transfer.convert import Converted
from transfer.weights import load_exact, load_whole, read_checkpoint


class FinetuneRunner(Runner):
    """The Runner of a fine-tuning.

    Attributes:
        start: The weights to start from, or None for random ones.
        origin: Their file.
        checkpoint_meta: What the loaded checkpoint says of itself.
    """

    _has_loaded: bool
    start: Converted | None = None
    origin: str = ""
    checkpoint_meta: Mapping[str, Any] = MappingProxyType({})
    started: float = 0.0

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build mmengine's logger without its handler for the terminal: it writes to the log file only."""
        logger = super().build_logger(*args, **kwargs)
        logger.handlers = [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]
        return logger

    def load_or_resume(self) -> None:
        """Go on from a checkpoint where the configuration names one, else load the weights to start from, all."""
        super().load_or_resume()
        if not self._has_loaded and self.start is not None:
            number = load_exact(self.detector, self.start.state_dict, "mmdet", self.origin)
            self.logger.info(f"{self.origin}: {number} tensors loaded by exact names")
            self._has_loaded = True
        self.started = time.monotonic()

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", **settings: Any) -> dict[str, Any]:
        """Load a whole detector, strictly and without running code, and note how far its run had come.

        Raises:
            UserError: It is no checkpoint of such a run, or one of another detector.
        """
        checkpoint = read_checkpoint(filename, "state_dict", "meta", map_location=map_location)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        load_whole(self.detector, checkpoint["state_dict"], filename)
        self.checkpoint_meta, self._has_loaded = checkpoint["meta"], True
        return checkpoint

    @property
    def detector(self) -> nn.Module:
        """The detector without its wrapper for several processes."""
        model: nn.Module = self.model.module if is_model_wrapper(self.model) else self.model
        return model

    @property
    def iterations_done(self) -> int:
        """Iterations trained, all sittings together."""
        trained = isinstance(self._train_loop, BaseLoop)
        return int(self.iter if trained else self.checkpoint_meta.get("iter", 0))

    def seconds(self) -> float:
        """Return the training and evaluation time so far, all sittings together, seconds."""
        return float(self.checkpoint_meta.get("seconds", 0.0)) + time.monotonic() - self.started

    def save_checkpoint(self, out_dir: str, filename: str, *args: Any, meta: Any = None, **kwargs: Any) -> None:
        """Write a checkpoint so that the file is there whole or not at all."""
        if get_rank() != 0:
            return
        meta = {**(meta or {}), "seconds": self.seconds()}
        with atomic_path(Path(out_dir) / filename) as temporary:
            super().save_checkpoint(out_dir, temporary.name, *args, meta=meta, **kwargs)
