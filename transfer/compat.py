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
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import torch
from torch import Tensor

from pretrain.console import UserError

# ---- Detectron2 ---------------------------------------------------------------------------------------------
#
# Tag v0.6 (November 2021) and today's main both call themselves 0.6. So a shim asks the source file it is for whether
# it still holds the passage, not the version. Each takes Detectron2's folder and returns a few words saying what it
# did, or None where nothing was needed.

INSTALL_DETECTRON2 = "python tools/install_detectron2"


@functools.cache
def prepare_detectron2() -> str:
    """Make the installed Detectron2 usable, and return one line saying which it is and which shims were applied.

    Call it before the first import from detectron2; `import transfer.d2` does. A second call does nothing more.

    Raises:
        UserError: If there is no Detectron2, or if it does not import.
    """
    folder = detectron2_folder()
    applied = [done for shim in DETECTRON2_SHIMS if (done := shim(folder))]
    try:
        version = importlib.import_module("detectron2").__version__
        compiled = not isinstance(importlib.import_module("detectron2._C"), CompiledPartMissing)
    except ModuleNotFoundError as error:
        if error.name != "detectron2._C":
            raise UserError(f"{folder}: Detectron2 does not import ({error}); run `{INSTALL_DETECTRON2}`") from error
        compiled = False
    except ImportError as error:
        # Later Detectron2 goes on without its compiled part; that it does not load is worth knowing.
        compiled = False
        applied.append(f"its compiled part does not load ({error})")
    state = "compiled" if compiled else "not compiled"
    return f"Detectron2 {version}, {state}; shims: {', '.join(applied) or 'none needed'}"


def detectron2_folder() -> Path:
    """Return the folder of the Detectron2 that would be imported, without importing it.

    Raises:
        UserError: If there is none.
    """
    spec = importlib.util.find_spec("detectron2")
    if spec is None or spec.origin is None:  # a bare folder of that name has no origin
        raise UserError(f"Detectron2 is not installed for {sys.executable}; run `{INSTALL_DETECTRON2}`")
    return Path(spec.origin).parent


def _holds(folder: Path, file: str, passage: str) -> bool:
    """Say whether the source file `folder`/`file` is there and holds `passage`."""
    path = folder / file
    return path.is_file() and passage in path.read_text(encoding="utf-8")


def restore_pil_linear(folder: Path) -> str | None:
    """Give Pillow 10 and later the name Image.LINEAR back; it always was another name of BILINEAR."""
    from PIL import Image

    if hasattr(Image, "LINEAR") or not _holds(folder, "data/transforms/transform.py", "Image.LINEAR"):
        return None
    vars(Image)["LINEAR"] = vars(Image)["BILINEAR"]
    return "PIL.Image.LINEAR"


def restore_numpy_aliases(folder: Path) -> str | None:
    """Give NumPy 1.24 and later the names of Python's own types back, those of them that v0.6 uses.

    NumPy 2 has a np.bool of its own, which serves.
    """
    import numpy as np

    missing = [kind for kind in (bool, int, float, str) if kind.__name__ not in vars(np)]
    if not missing or not _holds(folder, "data/datasets/pascal_voc.py", "dtype=np.str)"):
        return None
    for kind in missing:
        setattr(np, kind.__name__, kind)
    return ", ".join(f"np.{kind.__name__}" for kind in missing)


class CompiledPartMissing(ModuleType):
    """Stands where v0.6 imports `detectron2._C`: lets it import, and names the remedy when an operator is used.

    Faster and Mask R-CNN need none of these operators, NMS and RoIAlign come from torchvision.
    """

    __file__ = None

    @staticmethod
    def get_compiler_version() -> str:
        """Answer Detectron2's list of its environment, which `default_setup` prints."""
        return "none, Detectron2 is not compiled"

    get_cuda_version = get_compiler_version

    @staticmethod
    def has_cuda() -> bool:
        """Say that there are no CUDA operators."""
        return False

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"detectron2._C.{name}: this Detectron2 has no compiled part (rotated boxes, deformable convolutions "
            "and its own fast COCO evaluation need it); docs/install.md says how to compile it",
            name=name,
            obj=self,
        )


def stand_in_for_compiled_part(folder: Path) -> str | None:
    """Put a stand-in where v0.6 imports its compiled part, if that is not there or does not load.

    Later versions import without it, and one there would break them: their COCOEvaluator takes its presence for the
    compiled evaluation.
    """
    if not _holds(folder, "layers/rotated_boxes.py", "from detectron2 import _C"):
        return None
    importlib.import_module("torch")  # the compiled part finds torch's libraries only once they are loaded
    try:
        importlib.import_module("detectron2._C")
        return None
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == "detectron2._C"
        why = "" if absent else f" (the one there does not load: {error})"
    stand_in = CompiledPartMissing("detectron2._C")
    sys.modules["detectron2._C"] = stand_in
    importlib.import_module("detectron2").__dict__["_C"] = stand_in
    return f"a stand-in for detectron2._C{why}"


def hush_torch_notes(folder: Path) -> str | None:
    """Silence two notes of torch that no user can act on.

    v0.6's anchors call meshgrid without `indexing`, and mean what is today's default; every version compiles its box
    regression with torch.jit.script, which torch 2.14 calls deprecated at each import.
    """
    hushed = []
    if _holds(folder, "modeling/anchor_generator.py", "torch.meshgrid(shifts_y, shifts_x)"):
        warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming release", category=UserWarning)
        hushed.append("meshgrid")
    if _holds(folder, "modeling/box_regression.py", "@torch.jit.script"):
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
        hushed.append("jit.script")
    return f"torch's notes on {' and '.join(hushed)} hushed" if hushed else None


DETECTRON2_SHIMS: tuple[Callable[[Path], str | None], ...] = (
    hush_torch_notes,
    restore_pil_linear,
    restore_numpy_aliases,
    stand_in_for_compiled_part,
)


@contextmanager
def ddp_without_gpus(applies: bool) -> Iterator[None]:
    """Let DefaultTrainer wrap a detector on the CPU for several processes, which gloo connects.

    Every version hands DistributedDataParallel the local rank as the number of a GPU; on a CPU it accepts none.
    """
    module = importlib.import_module("detectron2.engine.defaults")
    original = module.create_ddp_model
    if applies:
        vars(module)["create_ddp_model"] = functools.partial(original, device_ids=None)
    try:
        yield
    finally:
        vars(module)["create_ddp_model"] = original


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
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    reason = _why_not_compiled()
    if reason is None:
        return f"mmcv {mmcv.__version__}, compiled; no shim"
    sys.modules["mmcv._ext"] = mmcv_operators()
    _roi_align_through_torchvision()
    return f"mmcv {mmcv.__version__}, {reason}; shims: nms and RoIAlign through torchvision, other mmcv ops refuse"


def _why_not_compiled() -> str | None:
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
    """Stands where mmcv imports its compiled operators: each of them raises a UserError when it is called."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse(*args: object, **kwargs: object) -> NoReturn:
            raise UserError(f"mmcv's operator '{name}' needs compiled mmcv; {COMPILED_MMCV_REMEDY}")

        return refuse


def mmcv_operators() -> ModuleType:
    """Return a stand-in for mmcv's compiled module `mmcv._ext`: nms works, every other operator refuses.

    It has a __spec__ because mmcv looks for the module by its spec.
    """
    module = MmcvOperatorsMissing("mmcv._ext")
    module.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", loader=None)
    vars(module)["nms"] = _nms
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
