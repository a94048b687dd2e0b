"""Reading foreign files: what is admitted, what is refused by name, and what is damaged."""

from __future__ import annotations

import argparse
import collections
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import randomised

from pretrain.console import UserError
from transfer.layouts import read_source
from transfer.reading import read_file


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    return randomised("resnet18")


def test_files(tmp_path: Path, weights: dict) -> None:
    torch.save({"state_dict": weights}, tmp_path / "good.pth.tar")
    assert read_source(tmp_path / "good.pth.tar").card.arch == "resnet18"

    torch.save({"state_dict": weights, "queue": collections.deque([1])}, tmp_path / "code.pth")
    with pytest.raises(UserError, match=r"would run collections\.deque; .*save the state_dict alone"):
        read_source(tmp_path / "code.pth")

    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(UserError, match=r"text\.pth: not a checkpoint"):
        read_source(tmp_path / "text.pth")

    whole = (tmp_path / "good.pth.tar").read_bytes()
    for length in (0, 3, 100, 30_000, len(whole) // 2, len(whole) - 10):  # torch has an error of another kind for each
        (tmp_path / "half.pth").write_bytes(whole[:length])
        assert not zipfile.is_zipfile(tmp_path / "half.pth")
        with pytest.raises(UserError, match=r"half\.pth: not a checkpoint, or a damaged one"):
            read_source(tmp_path / "half.pth")

    (tmp_path / "half.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(UserError, match=r"half\.safetensors: not a safetensors file"):
        read_source(tmp_path / "half.safetensors")

    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="holds a list"):
        read_source(tmp_path / "list.pth")
    with pytest.raises(UserError, match="no such checkpoint"):
        read_source(tmp_path / "nowhere.pth")


class Payload:
    """Runs a command when it is unpickled: leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_code_runs_only_if_trusted(
    tmp_path: Path, weights: dict, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, trace = tmp_path / f"evil{suffix}", tmp_path / "trace"
    content = {"model": weights if suffix == ".pth" else arrays(weights), "other": Payload(trace)}
    if suffix == ".pth":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"would run (posix|nt)\.system; .*--trust if you know who made the file"):
        read_source(path)
    assert not trace.exists()
    source = read_source(path, trust=True)
    assert trace.exists()
    assert torch.equal(source.weights["bn1.bias"], weights["bn1.bias"])
    assert "reading it runs" in capsys.readouterr().err


def arrays(weights: dict) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in weights.items()}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_arrays(tmp_path: Path, weights: dict, protocol: int) -> None:
    """Detectron2's model zoo: {"model": arrays, "__author__": str}; a counter is an array without dimensions."""
    few = {name: weights[name] for name in ("conv1.weight", "bn1.bias", "bn1.num_batches_tracked")}
    content = {"model": arrays(few), "__author__": "someone", "matching_heuristics": True, "best": np.float64(0.5)}
    (tmp_path / "r18.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_file(tmp_path / "r18.pkl")["model"]
    assert all(torch.equal(found[name], tensor) and found[name].shape == tensor.shape for name, tensor in few.items())


def test_pickles_of_python_2(tmp_path: Path) -> None:
    """A pickle as Python 2 wrote it: protocol 2, byte strings for names and for the data of the array."""
    data = np.arange(3, dtype="<f4").tobytes()
    raw = b"\x80\x02}U\x05conv1cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    raw += b"(K\x01K\x03\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
    raw += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U"
    raw += bytes([len(data)]) + data + b"tbs."
    (tmp_path / "r18.pkl").write_bytes(raw)
    assert torch.equal(read_file(tmp_path / "r18.pkl")["conv1"], torch.tensor([0.0, 1.0, 2.0]))


def test_damaged_pickle(tmp_path: Path) -> None:
    whole = pickle.dumps({"model": {"a": np.zeros(3)}})
    for name, content in (("half.pkl", whole[: len(whole) // 2]), ("text.pkl", b"hello"), ("empty.pkl", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}: not a checkpoint, or a damaged one"):
            read_file(tmp_path / name)


def test_what_training_scripts_save_beside_the_weights(tmp_path: Path, weights: dict) -> None:
    """timm saves the arguments of its script, many save a NumPy number; neither runs code."""
    content = {"state_dict": weights, "args": argparse.Namespace(lr=0.1), "best": np.float64(76.1), "n": np.int64(3)}
    torch.save(content, tmp_path / "timm.pth.tar")
    found = read_file(tmp_path / "timm.pth.tar")
    assert (found["args"].lr, found["best"], found["n"]) == (0.1, 76.1, 3)
    assert read_source(tmp_path / "timm.pth.tar").card.arch == "resnet18"
