"""Two processes over gloo: BatchNorm statistics that differ between the ranks become one."""

from rank_jobs import averaged_statistics


def test_running_statistics_are_averaged(two_ranks):
    """Of means (0, 0) and (1, 10), and of variances 1 and 3."""
    assert two_ranks.run(averaged_statistics) == [([0.5, 5.0], [2.0, 2.0])] * 2
