"""Two ranks train what one process trains: gradients, losses, stops and accuracies are those of the whole batch."""

import numpy as np
import pytest
import torch
from rank_jobs import WITHOUT_BATCH_NORM, accuracies, automix_steps, train_run, written_when_stopped
from safetensors.torch import load_file

from pretrain.training.logbook import read_log

WITHOUT = {"backbone.name": WITHOUT_BATCH_NORM, "data.transform.size": 64}


def _assert_close(actual, expected, atol):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def _exported(folder, branch):
    return {name: tensor.numpy() for name, tensor in load_file(folder / f"export/{branch}.safetensors").items()}


def _log(folder):
    """Return the log without what a clock says."""
    return [{k: v for k, v in e.items() if k not in ("elapsed", "images_per_second")} for e in read_log(folder)]


@pytest.mark.parametrize(
    "options",
    [{}, {"preset": "openmixup", "mask_ratio_over": "sample"}],  # a loss of the batch's mean mask does not split
    ids=["paper", "openmixup"],
)
def test_the_halves_of_a_batch_give_the_step_of_the_whole(two_ranks, options):
    """Student, Mix Block and teacher after three steps, in double precision."""
    options = {"momentum": 0.8, **options}
    first, second = two_ranks.run(automix_steps, options)
    _assert_close(second, first, atol=0)
    _assert_close(first, automix_steps(options), atol=1e-9)


@pytest.fixture(scope="module")
def alone(config, tmp_path_factory):
    """A vanilla run on one process, without batch norm."""
    folder = tmp_path_factory.mktemp("alone")
    train_run(config, WITHOUT, folder, "vanilla")
    return folder


def _assert_same_run(folder, expected):
    _assert_close(_exported(folder, "model"), _exported(expected, "model"), atol=1e-5)
    _assert_close(_log(folder), _log(expected), atol=1e-5)
    assert [entry["step"] for entry in _log(folder) if "total" in entry] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_on_two_ranks_is_the_run_on_one(two_ranks, config, tmp_path, alone, accumulate):
    two_ranks.run(train_run, config, {**WITHOUT, "optim.accumulate": accumulate}, tmp_path, "vanilla")
    _assert_same_run(tmp_path, alone)


def test_a_batch_in_parts_gives_the_step_of_the_whole(config, tmp_path, alone):
    train_run(config, {**WITHOUT, "optim.accumulate": 4}, tmp_path, "vanilla")
    _assert_same_run(tmp_path, alone)


@pytest.mark.parametrize(
    "changes", [{}, {"optim.accumulate": 2}, {"run.precision": "bf16-mixed"}], ids=["plain", "accumulate", "bf16"]
)
def test_ranks_keep_the_same_weights(two_ranks, config, tmp_path, changes):
    """With batch norm over each rank's own images; Mix Block, student and teacher alike."""
    first, second = two_ranks.run(train_run, config, changes, tmp_path)
    assert first["step"] == second["step"] == 6
    assert {name.split(".")[0] for name in first["parameters"]} == {"student", "mix_block", "teacher"}
    assert all(np.isfinite(values).all() for values in first["parameters"].values())
    _assert_close(second["parameters"], first["parameters"], atol=0)


@pytest.mark.parametrize("method", ["puzzlemix", "comixup", "manifoldmix", "augmix"])
def test_ranks_keep_the_same_weights_with_a_mixing_method(two_ranks, config, tmp_path, method):
    """Saliency, hooks and views on each rank; one exchange of the gradients. Ranks draw for themselves."""
    first, second = two_ranks.run(train_run, config, {}, tmp_path, method)
    assert first["step"] == second["step"] == 6
    assert all(np.isfinite(values).all() for values in first["parameters"].values())
    _assert_close(second["parameters"], first["parameters"], atol=0)
    _assert_close(second["networks"], first["networks"], atol=0)
    assert all(0 < entry["mixed_ce"] < 100 for entry in _log(tmp_path) if "total" in entry)


EVERY_SECOND = {"run.log_every": 2}


@pytest.fixture(scope="module")
def whole(two_ranks, config, tmp_path_factory):
    """An AutoMix run on two ranks, with batch norm, that nobody stops: its folder and what the ranks returned."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, two_ranks.run(train_run, config, EVERY_SECOND, folder)


def test_both_ranks_evaluate_the_network_that_is_exported(whole):
    folder, ranks = whole
    for rank in ranks:
        for branch in ("teacher", "student"):
            _assert_close(rank["networks"][branch], _exported(folder, branch), atol=0)


@pytest.mark.parametrize(
    ("asked", "stops"), [(1, 2), (3, 3)], ids=["next line of the log", "end of an epoch, between two lines"]
)
def test_a_stop_asked_of_one_rank_stops_both_and_they_go_on_bit_for_bit(
    two_ranks, config, tmp_path, whole, asked, stops
):
    """An epoch has three steps, and lines are written after steps 2, 4 and 6."""
    folder, expected = whole
    stopped = two_ranks.run(train_run, config, EVERY_SECOND, tmp_path, None, False, (1, asked))
    assert [rank["step"] for rank in stopped] == [stops, stops]
    end = f"after step {stops} of 6; --resume auto goes on from there"
    assert [rank["stopped"] for rank in stopped] == [f"stopped by another process {end}", f"stopped by SIGUSR1 {end}"]
    assert torch.load(tmp_path / "state.pth", weights_only=True)["step"] == stops

    resumed = two_ranks.run(train_run, config, EVERY_SECOND, tmp_path, None, True)
    for after, unbroken in zip(resumed, expected, strict=True):
        assert (after["step"], after["stopped"]) == (6, None)
        _assert_close(after["parameters"], unbroken["parameters"], atol=0)
        _assert_close(after["networks"], unbroken["networks"], atol=0)
    for branch in ("student", "teacher"):
        _assert_close(_exported(tmp_path, branch), _exported(folder, branch), atol=0)
    assert _log(tmp_path) == _log(folder)


def test_no_rank_ends_before_the_state_is_written(two_ranks, config, tmp_path):
    """A cluster may end all tasks of a job as soon as one has ended."""
    assert two_ranks.run(written_when_stopped, config, tmp_path) == [(True, True)] * 2


def test_a_run_changes_the_number_of_its_processes(two_ranks, config, tmp_path, alone):
    """One process, then two, then one: the batches are the same ones."""
    assert train_run(config, WITHOUT, tmp_path, "vanilla", ask=(0, 2))["step"] == 2
    stopped = two_ranks.run(train_run, config, WITHOUT, tmp_path, "vanilla", True, (1, 5))
    assert [rank["step"] for rank in stopped] == [5, 5]
    train_run(config, WITHOUT, tmp_path, "vanilla", resume=True)
    _assert_same_run(tmp_path, alone)


@pytest.mark.parametrize("step", [3, 6])
def test_a_stop_at_the_end_of_an_epoch_leaves_no_evaluation_out(config, tmp_path, alone, step):
    train_run(config, WITHOUT, tmp_path, "vanilla", ask=(0, step))
    train_run(config, WITHOUT, tmp_path, "vanilla", resume=True)
    assert _log(tmp_path) == _log(alone)
    _assert_close(_exported(tmp_path, "model"), _exported(alone, "model"), atol=0)


def test_accuracies_are_those_of_all_batches(two_ranks):
    expected = accuracies()
    assert set(expected) == {"net_top1", "net_top5", "mixed_acc1", "mixed_acc2"}
    assert all(0 < value < 100 for value in expected.values())
    assert two_ranks.run(accuracies) == [expected, expected]
