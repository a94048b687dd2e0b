"""Seeds for parts of a run, from the run's own seed."""

from __future__ import annotations

import numpy as np


def derive_seed(*numbers: int) -> int:
    """Return a 63-bit seed that depends on all the numbers, e.g. (seed, epoch, index); the same on every machine."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
