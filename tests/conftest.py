"""What holds for every test: chance begins at the same place in each, whichever tests the process ran before it."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch


@pytest.hookimpl(tryfirst=True)  # before the fixtures, those of a module too
def pytest_runtest_setup() -> None:
    """Seed Python's, NumPy's and torch's generators; with several processes, any test may come after any other."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
