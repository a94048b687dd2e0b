"""The mixing method that CONTRIBUTING.md writes as its example works as it stands there: one file and no more."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
USE = """
import torch
from pretrain.backbones import build_backbone
from pretrain.training.methods import build_method
from pretrain.training.settings import load_settings

config = "configs/pretrain/cifar100/r18_800ep.py"
compared = load_settings(config, method="stripmix")
settings = load_settings(config, {"method.alpha": 0.5}, method="stripmix")
method = build_method(settings.method, build_backbone(settings.backbone.name, 5), 5)
assert method.policy.alpha == 0.5 and compared.method.alpha == 1.0
images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 10, 7)
draw = method.policy.sample(5, (10, 7), lam=0.3, index=torch.arange(5).flip(0))
result = method.policy.apply(images, torch.eye(5), draw)
print(result.images[0, 0, :, 0].tolist(), result.soft_targets[0].tolist())
"""


@pytest.fixture
def checkout(tmp_path):
    """Return a copy of what the example touches, with its file in place."""
    for folder in ("pretrain", "configs", "tests/pretrain/mixups"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## A mixing method, from nothing")[2]
    [text] = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    [name] = re.findall(r"`(\S+stripmix\S*\.py)`", section)
    assert name == "pretrain/mixups/stripmix.py"
    (tmp_path / name).write_text(text)
    return tmp_path


def test_the_example_is_a_method(checkout):
    ran = subprocess.run([sys.executable, "-c", USE], cwd=checkout, capture_output=True, text=True, timeout=300)
    assert ran.stderr == ""
    images, targets = ran.stdout.strip().replace("] [", "]|[").split("|")
    assert images == str([0.0] * 3 + [4.0] * 7)
    assert eval(targets) == pytest.approx([0.3, 0, 0, 0, 0.7])


def test_the_tests_over_all_methods_know_it(checkout):
    command = [sys.executable, "-m", "pytest", "-q", "-k", "stripmix", "tests/pretrain/mixups/test_mixups.py"]
    ran = subprocess.run(command, cwd=checkout, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout
    assert int(re.search(r"(\d+) passed", ran.stdout)[1]) >= 18
