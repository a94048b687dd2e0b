"""tools/slurm.sh with stand-ins for SLURM's commands: what it submits, and that a job goes on to the same weights."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pretrain.console import UserError
from pretrain.training.devices import _nodes_and_devices

ROOT = Path(__file__).parents[2]
CONFIG = "configs/pretrain/cifar100/r18_800ep.py"

# sbatch keeps the script that it is given. scontrol says that the job runs, and writes down what else it is asked.
SBATCH = """#!/bin/bash
echo "$#" > "$CLUSTER/sbatch"
cat > "$CLUSTER/job.sh"
echo "Submitted batch job 1"
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo "JobId=$3 JobState=${STATE:-RUNNING}"; else echo "$*" >> "$CLUSTER/scontrol"; fi
"""
# srun starts the tasks of the job, each in a group of its own, with the variables that the real one sets. Its status is
# the highest of its tasks. Unless it is told otherwise, the first task that fails ends the others, as on many clusters.
SRUN = """#!{python}
import os, signal, subprocess, sys, time
command = sys.argv[1:]
options = [command.pop(0) for word in sys.argv[1:] if command[0].startswith("--")]
if os.environ.get("ONLY_RECORD"):
    open(os.environ["CLUSTER"] + "/srun", "w").write("\\0".join(command))
    sys.exit(int(os.environ["ONLY_RECORD"]))
each, nodes = int(os.environ["SLURM_NTASKS_PER_NODE"]), int(os.environ["SLURM_NNODES"])
for name, value in dict(NTASKS=each * nodes, STEP_NUM_TASKS=each * nodes, STEP_ID=0, NODELIST="127.0.0.1").items():
    os.environ["SLURM_" + name] = str(value)
tasks = []
for task in range(each * nodes):
    here = dict(SLURM_PROCID=task, SLURM_LOCALID=task % each, SLURM_NODEID=task // each)
    here = {{**os.environ, **{{name: str(value) for name, value in here.items()}}}}
    tasks.append(subprocess.Popen(command, env=here, start_new_session=True))
with open(os.environ["CLUSTER"] + "/tasks", "w") as file:
    file.write(" ".join(str(task.pid) for task in tasks))
while any(task.poll() is None for task in tasks):
    if "--kill-on-bad-exit=0" not in options and any(task.poll() for task in tasks):
        for task in tasks:
            if task.poll() is None:
                os.killpg(task.pid, signal.SIGKILL)
    time.sleep(0.01)
sys.exit(max(128 - task.returncode if task.returncode < 0 else task.returncode for task in tasks))
"""


class Cluster:
    """A folder with the stand-ins, and the part of SLURM that starts a job's script."""

    def __init__(self, folder):
        self.folder = folder
        for name, text in (("sbatch", SBATCH), ("scontrol", SCONTROL), ("srun", SRUN.format(python=sys.executable))):
            program = folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(text)
            program.chmod(0o755)
        self.jobs = []
        self.job_id = _job_id_of_a_free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("MASTER_ADDR", "MASTER_PORT")},
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "CLUSTER": str(folder),
            "PYTHON": sys.executable,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }

    def submit(self, *arguments, path=None):
        """Run tools/slurm.sh."""
        environment = {**self.environment, **({"PATH": path} if path else {})}
        command = [ROOT / "tools/slurm.sh", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    def start(self, **more):
        """Start the script that was submitted, as SLURM does when its turn has come."""
        script = self.folder / "job.sh"
        asked = options(script.read_text())
        variables = {
            "SLURM_JOB_ID": str(self.job_id),
            "SLURM_JOB_NAME": asked["job-name"],
            "SLURM_NNODES": asked["nodes"],
            "SLURM_NTASKS_PER_NODE": asked["ntasks-per-node"],
        }
        environment = {**self.environment, **variables, **more}
        job = subprocess.Popen(
            ["bash", script], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.jobs.append(job)
        return job

    def tasks(self):
        file = self.folder / "tasks"
        return [int(pid) for pid in file.read_text().split()] if file.exists() else []

    def said_to_scontrol(self):
        file = self.folder / "scontrol"
        return file.read_text().splitlines() if file.exists() else []


def _job_id_of_a_free_port():
    """Fabric's port is 15000 and the last four digits of the job's number."""
    for digits in range(os.getpid() % 9000, 10000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", 15000 + digits)):
                return 770000 + digits
    raise AssertionError("no free port")


def options(script):
    """Return the #SBATCH options of a script by name; one without a value has an empty one."""
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH --")]
    return dict(line.partition("=")[::2] for line in lines)


@pytest.fixture
def cluster(tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    cluster = Cluster(folder)
    yield cluster
    if any(job.poll() is None for job in cluster.jobs):  # the test failed; a number that is free may be another's
        for group in [*cluster.tasks(), *(job.pid for job in cluster.jobs if job.poll() is None)]:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def test_the_script_asks_for_what_was_said(cluster):
    done = cluster.submit(
        CONFIG, "--nodes", "2", "--gpus=8", "--cpus", "12", "--time", "1-00:00:00", "--partition", "gpu", "--print"
    )
    assert done.returncode == 0, done.stderr
    assert options(done.stdout) == {
        "job-name": "pretrain-r18_800ep",
        "nodes": "2",
        "ntasks-per-node": "8",
        "gpus-per-node": "8",
        "cpus-per-task": "12",
        "time": "1-00:00:00",
        "partition": "gpu",
        "output": "work_dirs/slurm/%x-%j.log",
        "open-mode": "append",
        "requeue": "",
        "signal": "USR1@120",
    }
    assert "--cpus-per-task=12 tools/pretrain.sh" in done.stdout
    assert not (cluster.folder / "sbatch").exists()


def test_a_job_on_the_cpu_asks_for_no_gpu(cluster):
    asked = options(cluster.submit(CONFIG, "--gpus", "0", "--print").stdout)
    assert (asked["ntasks-per-node"], "gpus-per-node" in asked) == ("1", False)


def test_arguments_stay_whole_on_their_way_to_the_task(cluster):
    arguments = ["--method", "cut mix", "--cfg-options", "name=it's $HOME", 'a="b"', "two\nlines", "", "*"]
    assert cluster.submit(CONFIG, *arguments).stdout == "Submitted batch job 1\n"
    assert (cluster.folder / "sbatch").read_text() == "0\n"  # all of it is in the script
    assert cluster.start(ONLY_RECORD="0").wait(timeout=300) == 0
    command = (cluster.folder / "srun").read_text().split("\0")
    assert command == ["tools/pretrain.sh", CONFIG, "--resume", "auto", *arguments]


@pytest.mark.parametrize(
    ("status", "state", "asked"),
    [
        (0, "RUNNING", False),
        (1, "RUNNING", False),
        (2, "RUNNING", False),
        (75, "RUNNING", True),
        (75, "COMPLETING", False),  # cancelled, or SLURM queues it again itself
        (137, "RUNNING", False),
    ],
)
def test_only_a_job_that_says_so_is_queued_again(cluster, status, state, asked):
    cluster.submit(CONFIG)
    assert cluster.start(ONLY_RECORD=str(status), STATE=state).wait(timeout=300) == status
    assert cluster.said_to_scontrol() == [f"requeue {cluster.job_id}"] * asked


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["configs/absent.py"], "configs/absent.py: no such config"),
        ([CONFIG, "--nodes", "0"], "--nodes 0: at least 1 is needed"),
        ([CONFIG, "--gpus", "two"], "--gpus two: a whole number is needed"),
        ([CONFIG, "--gpus", "08"], "--gpus 08: a whole number is needed"),
        ([CONFIG, "--time"], "--time : needs a value"),
        ([CONFIG, "--partition", "a b"], "--partition a b: needs a value, and no space in it"),
        ([CONFIG, "--account", "--print"], "--account --print: needs a value"),
        ([CONFIG, "8"], "the GPUs of a node are --gpus 8"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(cluster, arguments, message):
    done = cluster.submit(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (cluster.folder / "sbatch").exists()


def test_without_sbatch_one_line_names_print(cluster):
    done = cluster.submit(CONFIG, path="/usr/bin:/bin")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no sbatch on this machine; add --print" in done.stderr
    assert cluster.submit(CONFIG, "--print", path="/usr/bin:/bin").returncode == 0


SRUN_STARTED = {"SLURM_NNODES": "2", "SLURM_NTASKS": "8", "SLURM_NTASKS_PER_NODE": "4", "SLURM_STEP_NUM_TASKS": "8"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (1, 1)),
        ({"GROUP_WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"}, (3, 2)),
        (SRUN_STARTED, (2, 4)),
        ({**SRUN_STARTED, "GROUP_WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "2"}, (1, 2)),  # torchrun in a SLURM job
        ({"SLURM_NNODES": "1", "SLURM_NTASKS": "1"}, (1, 1)),
        ({**SRUN_STARTED, "SLURM_STEP_NUM_TASKS": "0", "SLURM_JOB_NAME": "interactive"}, (1, 1)),  # salloc's shell
    ],
)
def test_the_group_is_read_from_what_the_starter_sets(variables, expected):
    assert _nodes_and_devices(variables) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"SLURM_STEP_NUM_TASKS": "0"}, "a SLURM job of 8 tasks: start each of them, srun"),
        ({"SLURM_NTASKS": "7"}, "SLURM started 7 tasks on 2 nodes; say how many on each"),
        ({"SLURM_JOB_NAME": "interactive"}, "8 tasks of a SLURM job named 'interactive' would train apart"),
    ],
)
def test_tasks_that_would_be_no_group_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        _nodes_and_devices({**SRUN_STARTED, **change})


def test_tasks_without_a_number_for_each_node_are_refused():
    """Fabric raises a RuntimeError for them."""
    variables = {name: value for name, value in SRUN_STARTED.items() if name != "SLURM_NTASKS_PER_NODE"}
    with pytest.raises(UserError, match="--ntasks-per-node"):
        _nodes_and_devices({**variables, "SLURM_NTASKS": "2"})


EPOCHS, STEPS = 8, 3


@pytest.fixture
def config(tmp_path):
    """A run of 24 steps of 8 images; `test_resnet` is timm's smallest ResNet, with batch norm."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4 * STEPS + 1), ("val", 3)):
        for label in range(2):
            folder = tmp_path / "images" / split / str(label)
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (32, 32, 3)) + 60 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    path = tmp_path / "tiny.py"
    path.write_text(
        f'name = "tiny"\ndata = dict(root="{tmp_path / "images"}", batch_size=8, workers=0, transform=dict(size=32))\n'
        f'backbone = dict(name="test_resnet")\nmethod = dict(name="mixup")\noptim = dict(lr=0.02, epochs={EPOCHS})\n'
        "run = dict(log_every=1, evaluate_every=4)\n"
    )
    return path


@pytest.mark.slow
def test_a_job_whose_time_is_up_goes_on_to_the_weights_of_one_that_was_left_alone(cluster, config, tmp_path):
    """Two tasks, on one node and on two; USR1 goes to every process of the job's step, as SLURM sends it."""
    stopped, alone = tmp_path / "stopped here", tmp_path / "alone"
    cluster.submit(config, "--gpus", "2", "--work-dir", stopped)
    job = cluster.start()
    state = stopped / "mixup/state.pth"
    deadline = time.monotonic() + 300
    while not state.exists():
        assert job.poll() is None, job.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for pid in cluster.tasks():
        os.killpg(pid, signal.SIGUSR1)
    _, said = job.communicate(timeout=300)
    assert job.returncode == 75, said
    assert said.count("--resume auto goes on from there") == 1, said
    assert cluster.said_to_scontrol() == [f"requeue {cluster.job_id}"]
    assert 0 < torch.load(state, weights_only=True)["step"] < EPOCHS * STEPS

    assert cluster.start().wait(timeout=300) == 0  # SLURM starts the same script once more
    assert cluster.said_to_scontrol() == [f"requeue {cluster.job_id}"]

    cluster.submit(config, "--nodes", "2", "--work-dir", alone)
    assert cluster.start().wait(timeout=300) == 0
    went_on, undisturbed = (load_file(folder / "mixup/export/model.safetensors") for folder in (stopped, alone))
    torch.testing.assert_close(went_on, undisturbed, rtol=0, atol=0)
    assert '"2 x cpu"' in (stopped / "mixup/result.json").read_text()


@pytest.mark.slow
def test_wrong_input_ends_the_job_with_its_status(cluster, config):
    cluster.submit(config, "--cfg-options", "optim.lrr=1")
    _, said = (job := cluster.start()).communicate(timeout=300)
    assert job.returncode == 2, said
    assert "unknown key 'optim.lrr'" in said
    assert "Traceback" not in said
    assert cluster.said_to_scontrol() == []
