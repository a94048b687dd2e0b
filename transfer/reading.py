"""Reading checkpoints of others without running any code that they may carry."""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pretrain.console import UserError, warn

PICKLES = (".pkl", ".pickle")
# What a pickle of NumPy arrays, of whatever NumPy and Python, needs to be read; none of it runs code of the file's.
ADMITTED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("_codecs", "encode"),  # bytes in a pickle of protocol 2
    ("collections", "OrderedDict"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


# What torch and pickle raise for a file that is cut short, depending on where.
DAMAGED = (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError)


class ArraysOnly(pickle.Unpickler):
    """An unpickler that admits NumPy arrays and plain values, and names whatever else a file asks for.

    Attributes:
        blocked: The global that was refused, "module.name", or "" where none was.
    """

    blocked = ""

    def find_class(self, module: str, name: str) -> Any:
        """Return what an array needs.

        Raises:
            UnpicklingError: The file asks for something else.
        """
        if (module, name) not in ADMITTED:
            self.blocked = f"{module}.{name}"
            raise pickle.UnpicklingError(f"{self.blocked} is not an array")
        return super().find_class(module, name)


def read_file(path: str | Path, trust: bool = False) -> dict[str, Any]:
    """Read a checkpoint: .safetensors, .pkl (Detectron2's pickles of arrays), or any other name for a torch file.

    Args:
        path: The file.
        trust: Whether the code that a file carries may run. A warning says so where it is needed; never use it for
            a file whose maker you do not know.

    Returns:
        Its content, nested as it is there; NumPy arrays as tensors.

    Raises:
        UserError: It is missing, damaged, or needs more than arrays and plain values; the blocked global is named.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = _read_pickle(path, trust) if path.suffix in PICKLES else _read_torch(path, trust)
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from error
    except (*DAMAGED, AttributeError, ImportError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: not a checkpoint, or a damaged one ({reason}); fetch it again") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a state dict; save model.state_dict()")
    return dict(content)


def _read_torch(path: Path, trust: bool) -> Any:
    try:
        with _inert_admitted():
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        blocked = re.search(r"GLOBAL (\w[\w.]*)|Unsupported class (\w[\w.]*)", str(error))
        if not blocked:
            raise
        _require_trust(
            path, blocked[1] or blocked[2], trust, "the state_dict alone (torch.save(model.state_dict(), PATH))"
        )
    return torch.load(path, map_location="cpu", weights_only=False)


def _inert_admitted() -> AbstractContextManager[Any]:
    """Let weights_only read what training scripts save beside the weights and what runs no code.

    These are the arguments of the script (timm) and NumPy's numbers, under the names of NumPy 1 and 2.
    """
    if not hasattr(torch.serialization, "safe_globals"):  # torch 2.4
        return nullcontext()
    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")}
    admitted: list[Any] = [argparse.Namespace, np.dtype, *kinds]
    admitted += [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return torch.serialization.safe_globals(admitted)


def _read_pickle(path: Path, trust: bool) -> Any:
    with path.open("rb") as file:
        unpickler = ArraysOnly(file, encoding="latin1")  # Detectron's first files are of Python 2
        try:
            return _as_tensors(unpickler.load())
        except pickle.UnpicklingError:
            if not unpickler.blocked:
                raise
            _require_trust(path, unpickler.blocked, trust, "a dictionary of arrays")
        file.seek(0)
        return _as_tensors(pickle.load(file, encoding="latin1"))


def _require_trust(path: Path, blocked: str, trust: bool, instead: str) -> None:
    if not trust:
        raise UserError(
            f"{path}: refused, because reading it would run {blocked}; where it was made, save {instead} and convert "
            "that, or give --trust if you know who made the file"
        )
    warn(f"{path}: reading it runs {blocked}, as --trust allows")


def _as_tensors(value: Any) -> Any:
    """Return the value with the numeric arrays in nested dictionaries as tensors."""
    if isinstance(value, Mapping):
        return {key: _as_tensors(inner) for key, inner in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(np.array(value, order="C"))
    return value
