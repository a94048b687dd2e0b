"""tools/setup.sh with stand-ins for Python and df: what it asks of them, and when it does nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Answers like a Python of version $VERSION, makes .venv from itself, and writes down every other call.
PYTHON = """#!/bin/bash
case "$*" in
  *version_info*) echo "${VERSION:-3.11}" ;;
  "-c ") ;;
  "-m pip --version") [ -e "$PWD/.venv/pip" ] ;;
  "-m venv .venv") echo "$*" >> "$PWD/calls"; mkdir -p .venv/bin; cp "$0" .venv/bin/python; touch .venv/pip ;;
  *) echo "$*" >> "$PWD/calls"; exit "${PIP_STATUS:-0}" ;;
esac
"""
DF = """#!/bin/bash
echo "Filesystem 1024-blocks Used Available Capacity Mounted"
echo "/dev/vda 100 100 ${FREE_KB:-100000000} 1% /"
"""


@pytest.fixture
def checkout(tmp_path):
    """A folder with what setup.sh reads, and the stand-ins first on PATH."""
    folder = tmp_path / "a checkout"
    (folder / "tools").mkdir(parents=True)
    for name in ("requirements.lock", "pyproject.toml", "tools/setup.sh", "tools/install_detectron2"):
        shutil.copy(ROOT / name, folder / name)
    for name, text in (("python3", PYTHON), ("df", DF)):
        program = folder / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    return folder


def set_up(checkout, **environment):
    path = f"{checkout / 'bin'}:/usr/bin:/bin"
    environment = {**{key: os.environ[key] for key in ("HOME",) if key in os.environ}, "PATH": path, **environment}
    return subprocess.run([checkout / "tools/setup.sh"], env=environment, capture_output=True, text=True)


def calls(checkout) -> list[str]:
    file = checkout / "calls"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def test_one_pip_call_then_detectron2_and_a_first_import_then_nothing_more(checkout):
    assert set_up(checkout).returncode == 0
    venv, pip, detectron2, first_import = calls(checkout)
    assert venv == "-m venv .venv"
    assert pip.startswith("-m pip install ")
    assert pip.endswith("-r requirements.lock -e .")
    assert detectron2 == "tools/install_detectron2"
    assert first_import == "-c import mmengine"
    again = set_up(checkout)
    assert (again.returncode, again.stdout, calls(checkout)) == (0, "", [])


@pytest.mark.parametrize("file", ["requirements.lock", "pyproject.toml", "tools/install_detectron2"])
def test_a_change_installs_again_into_the_same_environment(checkout, file):
    set_up(checkout)
    calls(checkout)
    with (checkout / file).open("a") as appended:
        appended.write("# changed\n")
    assert set_up(checkout).returncode == 0
    assert len(calls(checkout)) == 3, "pip, the installer and the first import, but no new environment"
    assert len(list(checkout.glob(".venv/installed-*"))) == 1


def test_a_failed_installation_goes_on_with_the_same_command(checkout):
    failed = set_up(checkout, PIP_STATUS="1")
    assert failed.returncode == 2
    assert "run the same command again" in failed.stderr
    calls(checkout)
    assert set_up(checkout).returncode == 0
    assert [call.split()[0] for call in calls(checkout)] == ["-m", "tools/install_detectron2", "-c"]


@pytest.mark.parametrize("version", ["3.9", "3.14", "2.7"])
def test_an_unfit_python_is_refused_before_anything_is_made(checkout, version):
    refused = set_up(checkout, VERSION=version, PYTHON="python3")
    assert refused.returncode == 2
    assert f"PYTHON=python3 is Python {version}; 3.10, 3.11, 3.12 or 3.13 is needed" in refused.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_not_there_is_named(checkout):
    refused = set_up(checkout, PYTHON="python3.99")
    assert refused.returncode == 2
    assert refused.stderr == "error: PYTHON=python3.99: no such program\n"


def test_an_environment_of_another_python_is_not_mixed(checkout):
    set_up(checkout)
    (checkout / ".venv/bin/python").write_text(PYTHON.replace(":-3.11", ":-3.12"))
    refused = set_up(checkout, PYTHON="python3")
    assert refused.returncode == 2
    assert ".venv has Python 3.12, PYTHON=python3 is 3.11" in refused.stderr


def test_a_full_disk_is_told_before_the_installation(checkout):
    refused = set_up(checkout, FREE_KB="3000000")
    assert refused.returncode == 2
    assert "needs 10 GB while it runs (6.5 GB stay) and the disk has 3 GB free" in refused.stderr
    assert not (checkout / ".venv").exists()
