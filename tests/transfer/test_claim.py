"""Whose folder an output is: a run finds its own again, and nothing of another's is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pretrain.console import UserError
from transfer.finetuning.claim import RESULTS, RUN, claim, identity


def run(rate: float = 0.02, seed: int = 0, world: int = 1) -> dict[str, Any]:
    return identity(None, None, seed, 16, world, [], {"lr": rate})


def asked(folder: Path, mine: dict[str, Any], begun: bool = True, **settings: bool) -> list[str]:
    flags = {"writes": True, "eval_only": False, "resume": False, **settings}
    return claim(folder, mine, begun, option="--output", **flags)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a finished run."""
    assert asked(tmp_path, run(), begun=False) == []
    (tmp_path / RESULTS).write_text("{}")
    return tmp_path


def test_a_run_finds_its_own_folder_again(folder: Path) -> None:
    assert asked(folder, run()) == []
    assert (folder / RESULTS).is_file()
    assert json.loads((folder / RUN).read_text())["settings"] == {"lr": 0.02}


def test_another_run_is_refused_and_nothing_is_touched(folder: Path) -> None:
    before = (folder / RUN).read_text()
    with pytest.raises(UserError, match=r"a run of another seed \(0, now 1\); choose an --output"):
        asked(folder, run(seed=1), resume=True)
    with pytest.raises(UserError, match=r"a run with another lr \(0\.02, now 0\.01\); .* by --resume"):
        asked(folder, run(rate=0.01))
    with pytest.raises(UserError, match=r"a run with another world size \(1, now 2\)"):
        asked(folder, run(world=2))
    assert ((folder / RUN).read_text(), (folder / RESULTS).is_file()) == (before, True)


def test_with_other_settings_the_old_results_go_before_the_run_goes_on(folder: Path) -> None:
    assert asked(folder, run(rate=0.01), resume=True) == ["lr"]
    assert not (folder / RESULTS).exists()
    assert json.loads((folder / RUN).read_text())["changed_on_resume"] == ["lr"]
    assert asked(folder, run(rate=0.01)) == []
    assert json.loads((folder / RUN).read_text())["changed_on_resume"] == ["lr"]  # it is not forgotten


def test_only_the_first_process_writes(folder: Path) -> None:
    before = (folder / RUN).read_text()
    assert asked(folder, run(rate=0.01), resume=True, writes=False) == ["lr"]
    assert ((folder / RUN).read_text(), (folder / RESULTS).is_file()) == (before, True)


def test_any_number_of_processes_may_evaluate(folder: Path) -> None:
    assert asked(folder, run(world=4), eval_only=True) == []
    assert json.loads((folder / RUN).read_text())["world_size"] == 1  # of the training


def test_without_a_checkpoint_there_is_nothing_to_evaluate(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint to evaluate; train first"):
        asked(tmp_path, run(), begun=False, eval_only=True)
    assert not list(tmp_path.iterdir())
