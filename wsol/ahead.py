"""Work that threads do ahead of the one who waits for it, in order and within bounds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def ahead(
    items: Iterable[Item], work: Callable[[Item], Made], threads: int, pending: int
) -> Iterator[tuple[Item, Made]]:
    """Yield the items with what `work` makes of them, in order; at most `pending` are under way.

    Threads will do where the work releases the interpreter, as decoding, resizing and compiled code do. An error of
    `work` is raised here as it is, and nothing more is begun after it.
    """
    waiting: deque[tuple[Item, Future[Made]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > pending:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def batches_ahead(
    items: Sequence[Item], work: Callable[[Item], Made], batch_size: int, threads: int
) -> Iterator[list[tuple[Item, Made]]]:
    """Yield the same in batches; the next batch is under way meanwhile."""
    batch = []
    for pair in ahead(items, work, threads, pending=2 * batch_size - 1):
        batch.append(pair)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch
