"""Two ranks train what one process trains: gradients, losses, stops and accuracies are those of the whole batch."""

import numpy as np
import pytest
import torch
from rank_jobs import WITHOUT_BATCH_NORM, accuracies, automix_steps, train_run
from safetensors.torch import load_file

from pretrain.training.logbook import read_log


def assert_close(actual, expected, atol):
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "options",
    [{}, {"preset": "openmixup", "mask_ratio_over": "sample"}],  # the mean mask of a batch is no mean over its halves
    ids=["paper", "openmixup"],
)
def test_the_halves_of_a_batch_give_the_step_of_the_whole(two_ranks, options):
    options = {"momentum": 0.8, **options}
    first, second = two_ranks.run(automix_steps, options)
    assert_close(second, first, atol=0)
    assert_close(first, automix_steps(options), atol=1e-9)


PLAIN = {"backbone.name": WITHOUT_BATCH_NORM, "data.transform.size": 64}


def _losses(folder):
    return [(entry["step"], entry["total"], entry["lr"]) for entry in read_log(folder) if "total" in entry]


@pytest.fixture(scope="module")
def alone(config, tmp_path_factory):
    """A vanilla run on one process."""
    folder = tmp_path_factory.mktemp("alone")
    train_run(config, PLAIN, folder, "vanilla")
    return folder


def _assert_same_run(folder, alone):
    assert_close(load_file(folder / "export/model.safetensors"), load_file(alone / "export/model.safetensors"), 1e-5)
    assert_close(_losses(folder), _losses(alone), 1e-5)
    assert len(_losses(folder)) == 6
    evaluated, expected = ([e["model_top1"] for e in read_log(f) if "epoch" in e] for f in (folder, alone))
    assert evaluated == expected


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_on_two_ranks_is_the_run_on_one(two_ranks, config, tmp_path, alone, accumulate):
    two_ranks.run(train_run, config, {**PLAIN, "optim.accumulate": accumulate}, tmp_path, "vanilla")
    _assert_same_run(tmp_path, alone)


def test_a_batch_in_parts_gives_the_step_of_the_whole(config, tmp_path, alone):
    train_run(config, {**PLAIN, "optim.accumulate": 4}, tmp_path, "vanilla")
    _assert_same_run(tmp_path, alone)


@pytest.mark.parametrize(
    "changes", [{}, {"optim.accumulate": 2}, {"run.precision": "bf16-mixed"}], ids=["plain", "accumulate", "bf16"]
)
def test_ranks_keep_the_same_weights(two_ranks, config, tmp_path, changes):
    """With batch norm and its statistics on each rank's own half; Mix Block, student and teacher alike."""
    first, second = two_ranks.run(train_run, config, changes, tmp_path)
    assert first["step"] == second["step"] == 6
    assert {name.split(".")[0] for name in first["weights"]} == {"student", "mix_block", "teacher"}
    assert all(np.isfinite(weights).all() for weights in first["weights"].values())
    assert_close(second["weights"], first["weights"], atol=0)


def test_a_stop_asked_of_one_rank_stops_both_at_a_line_of_the_log_and_goes_on_bit_for_bit(two_ranks, config, tmp_path):
    changes = {"run.log_every": 2}
    whole = two_ranks.run(train_run, config, changes, tmp_path / "whole")
    stopped = two_ranks.run(train_run, config, changes, tmp_path / "cut", None, False, (1, 3))
    assert [rank["step"] for rank in stopped] == [4, 4]
    end = "after step 4 of 6; --resume auto goes on from there"
    assert [rank["stopped"] for rank in stopped] == [f"stopped by another process {end}", f"stopped by SIGUSR1 {end}"]
    assert torch.load(tmp_path / "cut/state.pth", weights_only=True)["step"] == 4

    resumed = two_ranks.run(train_run, config, changes, tmp_path / "cut", None, True)
    for rank, (after, expected) in enumerate(zip(resumed, whole, strict=True)):
        assert after["stopped"] is None, rank
        assert_close(after["weights"], expected["weights"], atol=0)
    for branch in ("student", "teacher"):
        files = [tmp_path / run / f"export/{branch}.safetensors" for run in ("cut", "whole")]
        assert_close(load_file(files[0]), load_file(files[1]), atol=0)
    assert _losses(tmp_path / "cut") == _losses(tmp_path / "whole")


def test_accuracies_are_those_of_all_batches(two_ranks):
    expected = accuracies()
    assert all(0 < value < 100 for value in expected.values())
    assert set(expected) == {"net_top1", "net_top5", "mixed_acc1", "mixed_acc2"}
    assert two_ranks.run(accuracies) == [expected, expected]
