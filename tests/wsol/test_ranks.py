"""Processes of one evaluation, each by itself; test_eval_protocols.py runs two of them together."""

from __future__ import annotations

import numpy as np
import pytest
from torch import distributed

from wsol.counting.ranks import Ranks, of_torchrun


@pytest.mark.parametrize("count", [0, 1, 2, 7, 9])
def test_every_image_is_of_one_share_and_shares_differ_by_one_at_most(count: int) -> None:
    shares = [Ranks(rank, 3).share(range(count)) for rank in range(3)]
    assert sorted(item for share in shares for item in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with of_torchrun() as ranks:
        assert ranks == Ranks(rank=0, world=1, local=0)
        assert ranks.first
        counts, rows = [np.arange(3), np.ones((2, 2), dtype=np.int64)], ("a", "b")
        ranks.add_up(counts)
        assert [array.tolist() for array in counts] == [[0, 1, 2], [[1, 1], [1, 1]]]
        assert ranks.gather(rows) == ["a", "b"]


def test_the_processes_of_torchrun_are_joined_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "6")
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(distributed, "init_process_group", done.append)
    monkeypatch.setattr(distributed, "get_rank", lambda: 5)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: done.append("left"))

    def evaluate() -> None:
        with of_torchrun() as ranks:
            assert ranks == Ranks(rank=5, world=6, local=2)
            assert not ranks.first
            assert done == ["gloo"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluate()
    assert done == ["gloo", "left"]
