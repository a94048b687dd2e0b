"""The processes of a run: which ones are asked for, and how the failure of one comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from failing_rank import fail
from torch import multiprocessing

from pretrain.console import UserError
from transfer.d2 import launch
from transfer.d2.launch import Ranks, ranks_asked, require_devices


def test_ranks_of_one_machine_and_of_several() -> None:
    assert ranks_asked(None, 1, 0, "auto") == Ranks(1, 1, 0, "auto")
    ranks = ranks_asked(8, 2, 1, "tcp://10.0.0.1:29500")
    assert (ranks.each, ranks.world, ranks.first) == (8, 16, False)
    assert ranks_asked(8, 2, 0, "tcp://10.0.0.1:29500").first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 0, "auto"), "--num-gpus 0 --num-machines 1: both must be 1 or more"),
        ((8, 0, 0, "auto"), "--num-machines 0: both"),
        ((8, 2, 2, "tcp://a:1"), "--machine-rank 2: of --num-machines 2 it can be 0 to 1"),
        ((8, 2, 0, "auto"), "--dist-url auto: several machines meet at tcp://HOST:PORT"),
        ((8, 2, 0, "tcp://a"), "--dist-url tcp://a: several"),
    ],
)
def test_numbers_that_make_no_run(arguments: tuple[int, int, int, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ranks_asked(*arguments)


def test_torchrun_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"TORCHELASTIC_RUN_ID": "x", "RANK": 5, "WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    ranks = ranks_asked(None, 1, 0, "auto")
    assert ranks == Ranks(each=4, machines=2, machine=1, url="env://", rank=5)
    assert (ranks.world, ranks.first) == (8, False)
    with pytest.raises(UserError, match="torchrun's business"):
        ranks_asked(4, 1, 0, "auto")


@pytest.mark.skipif(torch.cuda.is_available(), reason="tells what happens without a GPU")
def test_gpus_that_are_not_there() -> None:
    with pytest.raises(UserError, match="--num-gpus 2: torch sees no GPU here; leave it out"):
        require_devices(Ranks(2), "cpu")
    with pytest.raises(UserError, match="--num-gpus 2: torch sees 0 here"):
        require_devices(Ranks(2), "cuda")
    require_devices(Ranks(), "cpu")
    require_devices(Ranks(2, rank=0), "cpu")  # torchrun's, over gloo


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("user", r"^run: the loss became infinite; lower SOLVER\.BASE_LR$"),
        ("bug", r"process 1 failed \(KeyError: 'p2'\); its traceback is in .*failure\.txt$"),
        ("killed", r"process 1 of this machine ended by signal SIGKILL without a word .*log\.txt; the same command"),
    ],
)
def test_failure_of_a_process_is_one_line(
    how: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real processes, begun as Detectron2's launch does; that one wants GPUs."""
    monkeypatch.setattr(launch, "launch", lambda *_, args: multiprocessing.spawn(fail, nprocs=2, args=args))
    with pytest.raises(UserError, match=message):
        launch.run(fail, (how,), Ranks(2), "cuda", tmp_path)
    assert (tmp_path / "failure.txt").is_file() == (how == "bug")
    if how == "bug":
        assert "Traceback" in (tmp_path / "failure.txt").read_text()
