"""Two processes over gloo, started as a user starts them: by tools/pretrain.sh."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from two_ranks import free_port

from pretrain.training.logbook import read_log

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def _command(config, *arguments, processes=2, **environment):
    """Return the arguments of a Popen that pretrains on processes of this machine, on the CPU."""
    return {
        "args": [ROOT / "tools/pretrain.sh", config, str(processes), *arguments],
        "env": {
            **os.environ,
            "PYTHON": sys.executable,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "MASTER_PORT": str(free_port()),
            **environment,
        },
        "text": True,
    }


def _finish(config, *arguments):
    return subprocess.run(**_command(config, *arguments), capture_output=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """The folder of a run on two processes of one node."""
    folder = tmp_path_factory.mktemp("trained")
    done = _finish(config, "--work-dir", folder)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return folder / "automix"


def test_two_processes_train_one_network(trained):
    result = json.loads((trained / "result.json").read_text())
    assert result["environment"]["device"] == "2 x cpu"
    assert result["steps"] == 2 * (26 // 8)
    entries = read_log(trained)
    assert [e["step"] for e in entries if "total" in e] == [1, 2, 3, 4, 5, 6]  # one log, written by the first process
    evaluated = [e for e in entries if "epoch" in e]
    # 18 validation images over two ranks: accuracies are multiples of 1/18 only if none was counted twice.
    assert all(abs(e["student_top1"] * 18 / 100 - round(e["student_top1"] * 18 / 100)) < 1e-4 for e in evaluated)


def test_two_nodes_train_what_two_processes_of_one_node_train(trained, config, tmp_path):
    """Each node is a shell of this machine with one process."""
    nodes, port = [], str(free_port())
    for rank in range(2):
        place = {"NNODES": "2", "NODE_RANK": str(rank), "MASTER_PORT": port}
        command = _command(config, "--work-dir", tmp_path, processes=1, **place)
        nodes.append(subprocess.Popen(**command, stderr=subprocess.PIPE))
    said = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert ["automix: 6/6" in each for each in said] == [True, False]  # the first process of all speaks
    assert json.loads((tmp_path / "automix/result.json").read_text())["environment"]["device"] == "2 x cpu"
    for branch in ("teacher", "student"):
        weights = [load_file(folder / f"export/{branch}.safetensors") for folder in (tmp_path / "automix", trained)]
        torch.testing.assert_close(*weights, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.lrr=1", "unknown key 'optim.lrr'; did you mean 'lr'?"),
        ("data.root=absent", "absent: no images under train/<class>/ and val/<class>/"),
    ],
)
def test_wrong_input_is_said_once_and_without_a_traceback(change, message, tmp_path):
    done = _finish(ROOT / "configs/quickstart/pretrain.py", "--work-dir", tmp_path, "--cfg-options", change)
    assert done.returncode == 2
    assert done.stderr.count(message) == done.stderr.count("error: ") == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_crash_keeps_torchrun_s_report(tmp_path):
    """A crash is no wrong input: `import` of a module that ends the process stands for it."""
    (tmp_path / "config.py").write_text("import os\nos._exit(7)\n")
    done = _finish(tmp_path / "config.py")
    assert done.returncode not in (0, 2)
    assert "exitcode  : 7" in done.stderr


@pytest.fixture
def start_long(config):
    """Start, or go on with, a run of some minutes in a folder, until it has saved a training state of its own."""
    started = []

    def start(work_dir):
        state = work_dir / "automix/state.pth"
        before = state.stat().st_mtime_ns if state.is_file() else None
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and its heirs
        process = subprocess.Popen(
            **_command(config, "--work-dir", work_dir, "--resume", "auto", "--cfg-options", "optim.epochs=1000"),
            stderr=subprocess.PIPE,
            start_new_session=True,  # a group of its own, as on a terminal
        )
        signal.signal(signal.SIGINT, handler)
        started.append(process)
        deadline = time.monotonic() + 300
        while not state.is_file() or state.stat().st_mtime_ns == before:
            if process.poll() is not None:
                pytest.fail(f"it ended by itself: {process.communicate()[1]}")
            assert time.monotonic() < deadline, "no training state after five minutes"
            time.sleep(0.1)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()


def test_a_signal_is_answered_in_one_line_and_the_same_command_goes_on(start_long, tmp_path):
    """SIGUSR1 and SIGTERM as a cluster sends them, to the process that it started; Ctrl-C goes to the whole group."""
    resume_me = (75, "of 3000; --resume auto goes on from there")
    interrupted = (130, "interrupted; the same command goes on from here")
    answers = {signal.SIGUSR1: resume_me, signal.SIGTERM: resume_me, signal.SIGINT: interrupted}
    kept = []
    for number, (status, line) in answers.items():
        process = start_long(tmp_path)
        (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        _, said = process.communicate(timeout=300)
        assert process.returncode == status, said
        assert said.count(line) == 1, said
        assert "Traceback" not in said

        entries = read_log(tmp_path / "automix")
        assert entries[: len(kept)] == kept  # the very lines of the sitting before, with their times
        steps = [entry["step"] for entry in entries if "total" in entry]
        assert steps == list(range(1, len(steps) + 1))
        assert len(entries) > len(kept)
        if status == 75:
            assert torch.load(tmp_path / "automix/state.pth", weights_only=True)["step"] == len(steps)
        kept = entries
