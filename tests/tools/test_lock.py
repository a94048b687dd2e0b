"""requirements.lock holds what pyproject.toml asks for, on every Python it names."""

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RENEW = "run `make lock` and commit requirements.lock"


def locked(python: str) -> dict[str, str]:
    """Return {name: version} of the lock file for Linux and this Python."""
    environment = {"python_full_version": f"{python}.0", "python_version": python, "sys_platform": "linux"}
    pins = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate(environment):
                assert canonicalize_name(pin.name) not in pins, f"two versions of {pin.name} for Python {python}"
                pins[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
    return pins


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_requirement_is_pinned_within_its_range(python):
    project = PYPROJECT["project"]
    asked = [
        *project["dependencies"],
        *project["optional-dependencies"]["cpu"],
        *project["optional-dependencies"]["dev"],
    ]
    pins = locked(python)
    for requirement in map(Requirement, asked):
        version = pins.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not locked for Python {python}: {RENEW}"
        assert requirement.specifier.contains(version), f"{requirement} is locked to {version}: {RENEW}"


def test_constraints_and_lock_agree():
    pins = locked("3.11")
    for constraint in map(Requirement, PYPROJECT["tool"]["uv"]["constraint-dependencies"]):
        assert constraint.specifier.contains(pins[canonicalize_name(constraint.name)]), f"{constraint}: {RENEW}"


def test_the_header_is_the_makefiles_command():
    header = (ROOT / "requirements.lock").read_text().splitlines()[1]
    command = re.sub(r"^#\s+", "", header)
    assert command.replace("compile", "compile -q") in (ROOT / "Makefile").read_text()
