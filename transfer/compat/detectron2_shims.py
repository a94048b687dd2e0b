"""What Detectron2 needs on today's libraries.

Tag v0.6 (November 2021) and today's main both call themselves 0.6. So a shim asks the source file it is for whether
it still holds the passage, not the version. Each takes Detectron2's folder and returns a few words saying what it
did, or None where nothing was needed.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pretrain.console import UserError

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
