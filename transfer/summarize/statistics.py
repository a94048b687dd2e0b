"""Two starts compared: Welch's t-test, Holm's correction over many of them, and how many seeds a difference needs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.05  # of the tests; the intervals have 1 - LEVEL
POWER = 0.8
MOCO_DEVIATION = 0.2  # AP50 over five trials on VOC: He et al., arXiv:1911.05722
PAPER_GAIN = 0.3  # AP50 on VOC, AutoMix over ResizeMix in the paper's Table 7


@dataclass(frozen=True)
class Welch:
    """A difference of two means.

    Attributes:
        difference: First mean less the second.
        low, high: Confidence interval of 95 % of this one difference, not widened for the other ones of a table.
        p: Two-sided.
    """

    difference: float
    low: float
    high: float
    p: float


def welch(values: Sequence[float], baseline: Sequence[float]) -> Welch:
    """Compare two starts by Welch's t-test, which takes neither equal spread nor equal numbers of runs for granted.

    A seed gives both starts the same new layers and the same order of pictures, so that one could test the
    differences pair by pair. The paired test gives up nearly half of the degrees of freedom, needs the same seeds on
    both sides, and gains only where what the seed decides moves both starts alike: after thousands of iterations from
    different weights nobody has shown that. Where it does, Welch's test errs on the safe side.

    Args:
        values: Of one start, at least two.
        baseline: Of the other, at least two; not all values of both starts may be the same within their start.

    Source: B. L. Welch, Biometrika 34 (1947), as in scipy.stats.ttest_ind with equal_var=False.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)  # equal values on one side are no loss
        result = stats.ttest_ind(values, baseline, equal_var=False)
    interval = result.confidence_interval(1 - LEVEL)
    difference = float(np.mean(values) - np.mean(baseline))
    return Welch(difference, float(interval.low), float(interval.high), float(result.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number, in the order given.

    The k-th smallest of m (k from 0) is multiplied by m - k; none is smaller than one before it, or larger than 1. The
    chance of one false claim or more stays below the level, also for figures that depend on each other as AP and
    AP50 do.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    stepped = np.minimum(np.maximum.accumulate(factors * np.asarray(p_values, dtype=float)[order]), 1.0)
    corrected = np.empty(len(p_values))
    corrected[order] = stepped
    return [float(value) for value in corrected]


def power_of(runs: int, difference: float, deviation: float) -> float:
    """Return the chance that a two-sided t-test at 5 % of `runs` a start shows a true `difference`.

    Both starts have the standard deviation `deviation`, in the unit of the difference.
    """
    freedom = 2 * runs - 2
    critical = stats.t.ppf(1 - LEVEL / 2, freedom)
    shift = difference / deviation * math.sqrt(runs / 2)
    return float(stats.nct.sf(critical, freedom, shift) + stats.nct.cdf(-critical, freedom, shift))


def seeds_needed(difference: float = PAPER_GAIN, deviation: float = MOCO_DEVIATION) -> int:
    """Return the smallest number of runs a start with which `difference` is shown with a chance of 80 %.

    One comparison alone; Holm's correction over several ones asks for more.

    Args:
        difference: More than 0.
        deviation: Standard deviation over seeds, more than 0, in the same unit.
    """
    enough = 2
    while power_of(enough, difference, deviation) < POWER:
        enough *= 2
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if power_of(middle, difference, deviation) < POWER:
            too_few = middle
        else:
            enough = middle
    return enough
