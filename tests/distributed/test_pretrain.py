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
from two_ranks import free_port

from pretrain.training.logbook import read_log

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def _command(config, *arguments):
    """Return the arguments of a Popen that pretrains on two processes, on the CPU."""
    return {
        "args": [ROOT / "tools/pretrain.sh", config, "2", *arguments],
        "env": {
            **os.environ,
            "PYTHON": sys.executable,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "MASTER_PORT": str(free_port()),
        },
        "text": True,
    }


def _finish(config, *arguments):
    return subprocess.run(**_command(config, *arguments), capture_output=True, timeout=300, check=False)


def test_two_processes_train_one_network(config, tmp_path):
    done = _finish(config, "--work-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "automix/result.json").read_text())
    assert result["environment"]["device"] == "2 x cpu"
    assert result["steps"] == 2 * (26 // 8)
    entries = read_log(tmp_path / "automix")
    assert [e["step"] for e in entries if "total" in e] == [1, 2, 3, 4, 5, 6]  # one log, written by the first process
    evaluated = [e for e in entries if "epoch" in e]
    # 18 validation images over two ranks: accuracies are multiples of 1/18 only if none was counted twice.
    assert all(abs(e["student_top1"] * 18 / 100 - round(e["student_top1"] * 18 / 100)) < 1e-4 for e in evaluated)


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


def _endless(config, work_dir):
    """Start, or go on with, a run that nobody can wait for; return it once it has saved a training state of its own."""
    state = work_dir / "automix/state.pth"
    before = state.stat().st_mtime_ns if state.is_file() else None
    process = subprocess.Popen(
        **_command(config, "--work-dir", work_dir, "--resume", "auto", "--cfg-options", "optim.epochs=100000"),
        stderr=subprocess.PIPE,
        start_new_session=True,  # as on a terminal, SIGINT goes to the whole group
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored in a background job
    )
    deadline = time.monotonic() + 120
    while not state.is_file() or state.stat().st_mtime_ns == before:
        if process.poll() is not None or time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"the run saved no state: {process.communicate()[1]}")
        time.sleep(0.1)
    return process


def _steps(work_dir):
    """Return the step of the training state, having checked the log: one line a step, up to the state's at least."""
    step = torch.load(work_dir / "automix/state.pth", weights_only=True)["step"]
    logged = [entry["step"] for entry in read_log(work_dir / "automix") if "total" in entry]
    assert logged == list(range(1, len(logged) + 1))
    return step, len(logged)


def test_a_signal_stops_the_run_in_one_line_and_the_same_command_goes_on(config, tmp_path):
    reached = 0
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        process = _endless(config, tmp_path)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)  # as a cluster does, to the process that it started
        _, said = process.communicate(timeout=120)
        status, line = (130, "interrupted; the same command goes on from here")
        if number != signal.SIGINT:
            status, line = 75, "of 300000; --resume auto goes on from there"
        assert process.returncode == status, said
        assert said.count(line) == 1, said
        assert "Traceback" not in said
        step, logged = _steps(tmp_path)
        assert step > reached, "the run began anew"
        if number != signal.SIGINT:
            assert logged == step  # it stopped after the step that it saved
        reached = step
        print(number, said)
