"""Stopping and going on: kill -9, signals, damaged states; always to the same weights, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pretrain.console import RESUME_ME, ResumeMe, UserError
from pretrain.training import loop
from pretrain.training.checkpoint import FILE_NAME, PREVIOUS_NAME, load_state, save_state
from pretrain.training.devices import launch_fabric
from pretrain.training.logbook import read_log
from pretrain.training.loop import train
from pretrain.training.settings import load_settings

ROOT = Path(__file__).parents[3]
STEPS = 4  # an epoch of the 33 training images, 8 a step


@pytest.fixture
def fabric():
    return launch_fabric("32-true")


def _weights(folder):
    return {path.stem: load_file(path) for path in sorted((folder / "export").glob("*.safetensors"))}


def _log(folder):
    """Return the log without what a clock says."""
    return [{k: v for k, v in e.items() if k not in ("elapsed", "images_per_second")} for e in read_log(folder)]


def _require_equal(first, second):
    one, two = _weights(first), _weights(second)
    assert set(one) == set(two)
    assert len(one) >= 1
    for name, tensors in one.items():
        assert all(torch.equal(tensor, two[name][key]) for key, tensor in tensors.items()), name
    assert _log(first) == _log(second)


def _during(monkeypatch, step, action):
    """Do `action` in the middle of the given step."""
    real_step = loop.Run._step

    def interrupted_step(run, images, labels):
        if run.step == step:
            action()
        real_step(run, images, labels)

    monkeypatch.setattr(loop.Run, "_step", interrupted_step)


KILLED_IN_THE_EIGHTH_STEP = """
import os, signal
from pretrain.console import run_tool
from pretrain.training import __main__ as command, loop

real_step = loop.Run._step

def step(run, images, labels):
    if run.step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    real_step(run, images, labels)

loop.Run._step = step
run_tool(command.main)
"""


@pytest.mark.slow
def test_kill_9_in_the_middle_of_an_epoch(config, tmp_path):
    """The command itself, with stochastic depth, augmentation, AutoMix and loader workers."""
    options = ["optim.epochs=3", "run.checkpoint_steps=2", "backbone.drop_path_rate=0.2", "data.workers=1"]

    def pretrain(folder, *program):
        command = [sys.executable, *program, str(config), "--work-dir", str(folder), "--resume", "auto"]
        return subprocess.run([*command, "--cfg-options", *options], cwd=ROOT, capture_output=True, timeout=300)

    killed = tmp_path / "killed/automix"
    assert pretrain(killed.parent, "-c", KILLED_IN_THE_EIGHTH_STEP).returncode == -signal.SIGKILL
    assert torch.load(killed / FILE_NAME, weights_only=True)["step"] == 6 == STEPS + 2  # from the epoch's middle
    assert read_log(killed)[-1]["step"] == 7
    assert not (killed / "result.json").exists()
    for folder in (killed.parent, tmp_path / "whole"):
        done = pretrain(folder, "-m", "pretrain.training")
        assert done.returncode == 0, done.stderr
    _require_equal(tmp_path / "whole/automix", killed)


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_at_the_next_step_boundary(config, tmp_path, fabric, monkeypatch, asked):
    """It comes between two lines of the log, of which the next is the mean over steps before and after it."""
    settings = load_settings(config, {"optim.epochs": 2, "run.log_every": 4})
    train(settings, tmp_path / "whole", resume=False, fabric=fabric)
    before = signal.getsignal(asked)
    with monkeypatch.context() as patch:
        _during(patch, 5, lambda: os.kill(os.getpid(), asked))
        with pytest.raises(ResumeMe, match=f"stopped by {asked.name} after step 6 of 8; --resume auto goes on"):
            train(settings, tmp_path / "stopped", resume=False, fabric=fabric)
    assert signal.getsignal(asked) == before
    assert torch.load(tmp_path / "stopped" / FILE_NAME, weights_only=True)["step"] == 6
    train(settings, tmp_path / "stopped", resume=True, fabric=fabric)
    _require_equal(tmp_path / "whole", tmp_path / "stopped")


def test_the_status_says_resume_me(config, tmp_path):
    """The command line in a process group of its own: status 75 and one line.

    As clusters do, the signal goes to the whole group, to the loader's workers too.
    """
    command = [sys.executable, "-m", "pretrain.training", str(config), "--work-dir", str(tmp_path / "run")]
    options = ["--cfg-options", "optim.epochs=100000", "data.workers=2"]
    process = subprocess.Popen(
        [*command, *options], cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while process.poll() is None and not (tmp_path / "run/automix" / FILE_NAME).is_file():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == RESUME_ME == 75, said
    assert said.count("stopped by SIGTERM") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing"])
def test_a_damaged_newest_state_falls_back_to_the_one_before(config, tmp_path, fabric, monkeypatch, capsys, damage):
    settings = load_settings(config, {"optim.epochs": 3, "run.checkpoint_steps": 3})
    train(settings, tmp_path / "whole", resume=False, fabric=fabric)

    def die():
        raise ConnectionError("the machine is gone")

    with monkeypatch.context() as patch:
        _during(patch, 8, die)
        with pytest.raises(ConnectionError):
            train(settings, tmp_path / "run", resume=False, fabric=fabric)
    newest = tmp_path / "run" / FILE_NAME
    if damage == "missing":  # a crash between the two renames
        newest.unlink()
    else:
        newest.write_bytes(newest.read_bytes()[: 20_000 if damage == "truncated" else 0])
    capsys.readouterr()
    train(settings, tmp_path / "run", resume=True, fabric=fabric)
    warning = f"warning: {newest}: not a whole training state"
    assert (warning in capsys.readouterr().err) == (damage != "missing")
    _require_equal(tmp_path / "whole", tmp_path / "run")


def test_the_warning_names_what_it_goes_on_from(tmp_path, capsys):
    settings = {"run": {"seed": 0}}
    for step in (1, 2):
        save_state(tmp_path, {"step": step, "settings": settings, "tensor": torch.full((9,), step)})
    assert load_state(tmp_path, settings)["step"] == 2
    (tmp_path / FILE_NAME).write_bytes(b"half")
    assert load_state(tmp_path, settings)["step"] == 1
    assert f"going on from {PREVIOUS_NAME}, step 1" in capsys.readouterr().err
    (tmp_path / PREVIOUS_NAME).write_bytes(b"half")
    with pytest.raises(UserError, match="not a whole training state .*; remove it to start this run anew"):
        load_state(tmp_path, settings)


def test_a_state_holds_plain_data_only(config, tmp_path, fabric):
    train(load_settings(config, {"optim.epochs": 1}), tmp_path, resume=False, fabric=fabric)
    state = torch.load(tmp_path / FILE_NAME, weights_only=True)
    assert {"method", "buffers", "optimizer", "precision", "step", "settings", "elapsed", "sums", "summed"} == set(
        state
    )
