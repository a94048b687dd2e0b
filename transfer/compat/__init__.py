"""Every shim that a version of Detectron2, mmcv, mmengine or torch needs, applied only where it is needed.

Nothing elsewhere in the toolkit patches another library. Importing this package imports neither detector: that is left
to `prepare_detectron2` and `prepare_mmcv`.
"""

from transfer.compat.detectron2_shims import (
    CompiledPartMissing,
    ddp_without_gpus,
    detectron2_folder,
    prepare_detectron2,
)
from transfer.compat.openmmlab_shims import MmcvOperatorsMissing, prepare_mmcv

__all__ = [
    "CompiledPartMissing",
    "MmcvOperatorsMissing",
    "ddp_without_gpus",
    "detectron2_folder",
    "prepare_detectron2",
    "prepare_mmcv",
]
