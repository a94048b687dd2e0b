"""Two processes over gloo, started as a user starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pretrain.training.logbook import read_log

ROOT = Path(__file__).parents[2]


ENVIRONMENT = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "MASTER_PORT": "29533"}


def _command(config, *arguments):
    """Return the command that pretrains on two processes."""
    return [ROOT / "tools/pretrain.sh", config, "2", *arguments]


def _start(*arguments):
    command = _command(*arguments)
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def config(tmp_path):
    """A small run on 18 training and 18 validation images of two classes."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(2):
            folder = tmp_path / "images" / split / str(label)
            folder.mkdir(parents=True)
            for i in range(9):
                pixels = rng.integers(0, 60, (32, 32, 3)) + 120 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    path = tmp_path / "config.py"
    path.write_text(
        f'name = "two"\ndata = dict(root="{tmp_path}/images", batch_size=8, workers=0, transform=dict(size=32))\n'
        'backbone = dict(name="resnet10t")\nmethod = dict(name="automix", momentum=0.8)\n'
        "optim = dict(lr=0.02, epochs=2)\nrun = dict(log_every=1)\n"
    )
    return path


@pytest.mark.slow
def test_two_processes_train_one_network(config, tmp_path):
    done = _start(config, "--work-dir", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run/automix/result.json").read_text())
    assert result["environment"]["device"] == "2 x cpu"
    assert result["steps"] == 2 * (18 // 8)
    entries = read_log(tmp_path / "run/automix")
    assert [e["step"] for e in entries if "total" in e] == [1, 2, 3, 4]  # one log, written by the first process
    evaluated = [e for e in entries if "epoch" in e]
    # 18 validation images over two ranks: accuracies are multiples of 1/18 only if none was counted twice.
    assert all(abs(e["student_top1"] * 18 / 100 - round(e["student_top1"] * 18 / 100)) < 1e-4 for e in evaluated)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optim.lrr=1", "unknown key 'optim.lrr'; did you mean 'lr'?"),
        ("data.root=absent", "absent: no images under train/<class>/ and val/<class>/"),
    ],
)
def test_wrong_input_is_said_once_and_without_a_traceback(change, message, tmp_path):
    done = _start(ROOT / "configs/quickstart/pretrain.py", "--work-dir", tmp_path, "--cfg-options", change)
    assert done.returncode == 2
    assert done.stderr.count(message) == done.stderr.count("error: ") == 1, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_crash_keeps_torchrun_s_report(tmp_path):
    """A crash is no wrong input: `import` of a module that ends the process stands for it."""
    (tmp_path / "config.py").write_text("import os\nos._exit(7)\n")
    done = _start(tmp_path / "config.py")
    assert done.returncode not in (0, 2)
    assert "exitcode  : 7" in done.stderr


@pytest.mark.slow
def test_ctrl_c_is_answered_once_and_without_a_traceback(config, tmp_path):
    process = subprocess.Popen(
        _command(config, "--work-dir", tmp_path / "run", "--cfg-options", "optim.epochs=100000"),
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # as on a terminal, SIGINT goes to the whole group
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored in a background job
    )
    while process.poll() is None and not (tmp_path / "run/automix/state.pth").is_file():
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said.count("interrupted; the same command goes on from here") == 1, said
    assert "Traceback" not in said
