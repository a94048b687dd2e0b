"""What mmcv, mmengine and MMDetection need on today's libraries, with compiled mmcv and with mmcv-lite.

Faster and Mask R-CNN call three of mmcv's compiled operators: NMS, and RoIAlign with its gradient. What stands in for
them keeps the same boxes, and pools the same values to the last bit (tests/transfer/mmdet/test_compiled_mmcv.py).
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import re
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from pretrain.console import UserError

if TYPE_CHECKING:
    from torch import Tensor

MMDET_REMEDY = "pip install 'mmcv-lite>=2.1,<2.2' 'mmengine>=0.10.5' 'mmdet>=3.3,<3.4' six"
COMPILED_MMCV_REMEDY = "compile mmcv 2.1 in place of mmcv-lite: docs/install.md, under 'With GPUs', has the commands"


@functools.cache
def prepare_mmcv() -> str:
    """Make MMDetection importable with the mmcv that is installed; repeated calls do nothing more.

    Compiled mmcv is used as it is. With mmcv-lite, which has no compiled operators, `mmcv._ext` is replaced by
    `mmcv_operators`, and `mmcv.ops.roi_align`, which the class RoIAlign calls, by the `roi_align` of this module.

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
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    reason = why_not_compiled()
    if reason is None:
        return f"mmcv {mmcv.__version__}, compiled; no shim"
    sys.modules["mmcv._ext"] = mmcv_operators()
    # The package and its module hold the function each under its own name; mmcv.ops.roi_align is not the module.
    for name in ("mmcv.ops", "mmcv.ops.roi_align"):
        vars(importlib.import_module(name))["roi_align"] = roi_align
    return f"mmcv {mmcv.__version__}, {reason}; shims: nms and RoIAlign through torchvision, other mmcv ops refuse"


def why_not_compiled() -> str | None:
    """Return None if mmcv's compiled operators load, else why they do not."""
    stands_in = isinstance(sys.modules.get("mmcv._ext"), MmcvOperatorsMissing)
    if stands_in or importlib.util.find_spec("mmcv._ext") is None:
        return "not compiled (mmcv-lite)"
    try:
        importlib.import_module("mmcv._ext")
    except ImportError as error:
        return f"compiled part does not load ({str(error).splitlines()[0]})"
    return None


class MmcvOperatorsMissing(ModuleType):
    """Stands where mmcv imports its compiled operators: nms works, any other raises a UserError when it is called."""

    @staticmethod
    def get_compiler_version() -> str:
        """Answer mmcv's list of its environment, `mmcv.utils.collect_env`."""
        return "none, mmcv is not compiled"

    get_compiling_cuda_version = get_compiler_version

    @staticmethod
    def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
        """Return the indices of the kept boxes, best first.

        mmcv's Python does the rest: `score_threshold`, `max_num`, and everything of `batched_nms`.

        Args:
            boxes: (n, 4) as x0, y0, x1, y1.
            scores: (n,).
            iou_threshold: A box whose IoU with a better one is above it goes.
            offset: 1 if the pixel at x1, y1 belongs to the box (its width is x1 - x0 + 1), else 0.
        """
        import torch
        from torchvision.ops import nms

        if boxes.dtype != torch.float64:
            # torchvision compares with a 64-bit threshold, mmcv with a 32-bit one: of an IoU of 3/10, which is a little
            # more than 0.3 in 32 bits, only torchvision would say that it is above 0.3.
            iou_threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
        # Of equal scores mmcv takes that box for the better which torch's unstable sort puts first, torchvision the
        # earlier one.
        order = scores.argsort(descending=True)
        boxes = boxes[order] + boxes.new_tensor([0, 0, offset, offset])
        return order[nms(boxes, scores[order], iou_threshold)]

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args: object, **kwargs: object) -> NoReturn:
            raise _needs_compiled(name)

        return refuse


def mmcv_operators() -> ModuleType:
    """Return a stand-in for `mmcv._ext`. It has a __spec__ because mmcv looks for the module by its spec."""
    module = MmcvOperatorsMissing("mmcv._ext")
    module.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", loader=None)
    return module


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Tensor:
    """Stand in for `mmcv.ops.roi_align`, through torchvision; the defaults and the order are mmcv's.

    Args:
        features: (N, C, H, W).
        rois: (n, 5) as picture, x0, y0, x1, y1, in the picture's coordinates. Compiled mmcv refuses x1 < x0 on a CPU,
            torchvision does not look.
        output_size: Bins of the output, one number or (height, width).
        spatial_scale: Pixels of the features per pixel of the picture.
        sampling_ratio: Samples of a bin along each side; 0 for as many as the bin has pixels.
        pool_mode: "avg".
        aligned: Whether pixel centres lie at 0.5, 1.5, ...; else at 0, 1, ..., and no RoI is less than a pixel wide.

    Returns:
        (n, C, height, width).

    Raises:
        UserError: `pool_mode` is "max", which torchvision has not.
    """
    from torchvision.ops import roi_align as through_torchvision

    if pool_mode != "avg":
        raise _needs_compiled(f"RoIAlign with pool_mode '{pool_mode}'")
    return through_torchvision(features, rois, output_size, spatial_scale, sampling_ratio, aligned)


def _needs_compiled(operator: str) -> UserError:
    return UserError(f"mmcv's operator {operator} needs compiled mmcv; {COMPILED_MMCV_REMEDY}")


def _release(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version: (2, 14) for "2.14.1+cpu"."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])
