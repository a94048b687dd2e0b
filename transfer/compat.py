"""Every shim that a version of Detectron2, mmcv, mmengine or torch needs, applied only where it is needed.

Nothing elsewhere in the toolkit patches another library.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor

from pretrain.console import UserError

# ---- mmcv, mmengine and MMDetection ----------------------------------------------------------------------------

MMDET_REMEDY = "pip install 'mmcv-lite>=2.1,<2.2' 'mmengine>=0.10.5' 'mmdet>=3.3,<3.4' six"
COMPILED_MMCV_REMEDY = "pip uninstall mmcv-lite, then pip install 'mmcv>=2.1,<2.2' built for this torch"


@functools.cache
def prepare_mmcv() -> str:
    """Make MMDetection importable with the mmcv that is installed; repeated calls do nothing more.

    Compiled mmcv is used as it is. With mmcv-lite, which has no compiled operators, `mmcv._ext` is replaced by
    `mmcv_operators`, and RoIAlign goes through torchvision.

    Returns:
        One line that says which mmcv was found and which shims were applied.

    Raises:
        UserError: mmengine, mmcv or mmdet is missing, or mmcv is not of a version that mmdet accepts.
    """
    if missing := [name for name in ("mmengine", "mmcv", "mmdet", "six") if importlib.util.find_spec(name) is None]:
        raise UserError(f"MMDetection cannot run: {', '.join(missing)} not installed; {MMDET_REMEDY}")
    import mmcv

    if not (2, 0) <= _release(mmcv.__version__) < (2, 2):
        raise UserError(f"mmcv {mmcv.__version__}: mmdet 3.3 accepts 2.0 and 2.1 only; {MMDET_REMEDY}")
    reason = _why_not_compiled()
    if reason is None:
        return f"mmcv {mmcv.__version__}, compiled; no shim"
    sys.modules["mmcv._ext"] = mmcv_operators()
    _roi_align_through_torchvision()
    return f"mmcv {mmcv.__version__}, {reason}; shims: nms and RoIAlign through torchvision, other mmcv ops refuse"


def _why_not_compiled() -> str | None:
    """Return None if mmcv's compiled operators load, else why they do not."""
    if importlib.util.find_spec("mmcv._ext") is None:
        return "not compiled (mmcv-lite)"
    try:
        importlib.import_module("mmcv._ext")
    except ImportError as error:
        return f"compiled part does not load ({str(error).splitlines()[0]})"
    return None


def mmcv_operators() -> ModuleType:
    """Return a stand-in for mmcv's compiled module `mmcv._ext`: nms works, every other operator raises a UserError.

    It has a __spec__ because mmcv looks for the module by its spec.
    """

    class Operators(ModuleType):
        def __getattr__(self, name: str) -> Callable[..., NoReturn]:
            if name.startswith("__"):
                raise AttributeError(name)

            def refuse(*args: object, **kwargs: object) -> NoReturn:
                raise UserError(f"mmcv's operator '{name}' needs compiled mmcv; {COMPILED_MMCV_REMEDY}")

            return refuse

    module = Operators("mmcv._ext")
    module.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", loader=None)
    module.nms = _nms  # type: ignore[attr-defined]
    return module


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Return the indices of the kept boxes, best first.

    Args:
        boxes: (n, 4) as x0, y0, x1, y1.
        scores: (n,).
        iou_threshold: A box whose IoU with a better one is above it goes.
        offset: 1 if the pixel at x1, y1 belongs to the box (its width is x1 - x0 + 1), else 0.
    """
    import torchvision

    return torchvision.ops.nms(boxes + boxes.new_tensor([0, 0, offset, offset]), scores, iou_threshold)


def _roi_align_through_torchvision() -> None:
    from mmcv.ops import RoIAlign

    original = RoIAlign.__init__

    @functools.wraps(original)
    def build(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.pool_mode != "avg":
            raise UserError(f"RoIAlign with pool_mode '{self.pool_mode}' needs compiled mmcv; {COMPILED_MMCV_REMEDY}")
        self.use_torchvision = True

    RoIAlign.__init__ = build


@contextmanager
def trusted_checkpoints(folder: str | Path) -> Iterator[bool]:
    """Let mmengine read its own checkpoints in `folder` under torch >= 2.6; all other files stay weights_only.

    mmengine 0.10.7 stores its log buffers in a checkpoint, as pickled objects, and torch >= 2.6 refuses them by
    default (mmengine issue 1655). The files of a run's own work directory were written by that run.

    Yields:
        Whether the shim was needed and applied.
    """
    from mmengine.runner.checkpoint import CheckpointLoader

    if _release(torch.__version__) < (2, 6):
        yield False
        return
    trusted = Path(folder).resolve()
    original = CheckpointLoader._schemes[""]

    def load(filename: str, map_location: Any) -> Any:
        path = Path(filename).expanduser().resolve()
        return torch.load(path, map_location=map_location, weights_only=not path.is_relative_to(trusted))

    CheckpointLoader.register_scheme("", load, force=True)
    try:
        yield True
    finally:
        CheckpointLoader.register_scheme("", original, force=True)


def _release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version: (2, 14) for "2.14.1+cpu"."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
