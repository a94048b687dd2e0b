"""Work done ahead by threads: its order, its bounds, its errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from wsol.ahead import ahead, batches_ahead


def test_reading_ahead_keeps_the_order_and_raises_what_loading_raises() -> None:
    batches = list(batches_ahead(range(7), lambda item: item * 10, batch_size=3, threads=4))
    assert batches == [[(0, 0), (1, 10), (2, 20)], [(3, 30), (4, 40), (5, 50)], [(6, 60)]]
    with pytest.raises(ZeroDivisionError):
        list(batches_ahead(range(3), lambda item: 1 // (1 - item), batch_size=2, threads=2))


def test_no_more_is_begun_than_is_allowed_to_be_pending() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            begun.append(item)
            yield item

    for item, made in ahead(items(), lambda item: -item, threads=2, pending=3):
        assert made == -item
        assert len(begun) <= item + 1 + 3


def test_the_next_batch_is_under_way_while_one_is_used() -> None:
    begun: list[int] = []
    batches = batches_ahead(range(20), begun.append, batch_size=3, threads=1)
    assert [item for item, _ in next(batches)] == [0, 1, 2]
    deadline = time.monotonic() + 300
    while len(begun) < 6 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert begun[:6] == [0, 1, 2, 3, 4, 5]
    assert len(begun) < 9  # and no more than the next


def test_after_an_error_nothing_more_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, leaving, leave = [], Event(), ThreadPoolExecutor.__exit__
    monkeypatch.setattr(ThreadPoolExecutor, "__exit__", lambda pool, *error: leaving.set() or leave(pool, *error))

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            raise ZeroDivisionError
        leaving.wait(60)

    with pytest.raises(ZeroDivisionError):
        list(ahead(range(20), work, threads=1, pending=9))
    assert begun in ([0], [0, 1])  # the one thread may have taken the next
