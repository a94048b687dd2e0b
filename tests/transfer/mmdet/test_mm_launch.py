"""Which processes make up a run: what torchrun and srun say, and what is refused before eight runs share a folder."""

import os

import pytest

from pretrain.console import UserError
from transfer.mmdet import launch
from transfer.mmdet.launch import Ranks, chosen_launcher, process_group

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
SRUN = {"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4"}
SRUN |= {"SLURM_JOB_ID": "1234567", "SLURM_NODELIST": "gpu[07-09]"}


@pytest.fixture
def environment(monkeypatch):
    """Return a function that puts these variables of a launcher into an environment that ends with the test."""
    names = (*TORCHRUN, *SRUN, "SLURM_STEP_NODELIST", "MASTER_ADDR", "MASTER_PORT")
    empty = {name: value for name, value in os.environ.items() if name not in names}
    monkeypatch.setattr(os, "environ", empty)
    return empty.update


def test_one_process_alone(environment):
    assert chosen_launcher(None) == "none"
    with process_group("none") as ranks:
        assert ranks == Ranks(0, 1)
        assert ranks.first


def test_torchrun_is_found_without_being_named(environment):
    environment(TORCHRUN)
    assert chosen_launcher(None) == "pytorch"


@pytest.mark.parametrize(
    ("values", "asked", "told"),
    [
        (TORCHRUN, "none", "--launcher none, but torchrun began this process; pytorch it is"),
        (SRUN, None, "srun began this process; slurm it is"),
        ({}, "pytorch", "start it by torchrun"),
        ({}, "slurm", "start it by srun, one task a GPU"),
    ],
)
def test_a_launcher_that_did_not_begin_this_process(environment, values, asked, told):
    environment(values)
    with pytest.raises(UserError, match=told):
        chosen_launcher(asked)


def test_srun_in_torchs_words(environment, monkeypatch):
    """The group is not made; what torch would be told is read back."""
    environment(SRUN)
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(launch.distributed, "is_initialized", lambda: True)
    with process_group(chosen_launcher("slurm")) as ranks:
        assert ranks == Ranks(3, 4)
        assert not ranks.first
    wanted = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "gpu07", "MASTER_PORT": "19567"}
    assert {name: os.environ[name] for name in wanted} == wanted  # port: 15000 and the last four digits of the job


def test_more_processes_than_gpus(environment, monkeypatch):
    environment({**TORCHRUN, "LOCAL_RANK": "2"})
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 2)
    told = "process 2 of this machine has no GPU of its own: torch sees 2"
    with pytest.raises(UserError, match=told), process_group("pytorch"):
        pytest.fail("entered")


def test_each_process_takes_its_own_gpu(environment, monkeypatch):
    environment(TORCHRUN)
    taken, groups = [], []
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(launch.torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(launch.distributed, "init_process_group", groups.append)
    monkeypatch.setattr(launch.distributed, "destroy_process_group", lambda: groups.append("gone"))
    with process_group("pytorch") as ranks:
        assert (ranks.rank, ranks.world, taken, groups) == (5, 8, [1], ["nccl"])
    assert groups == ["nccl", "gone"]
