"""Pictures that a small network learns half of, and runs trained on them, once for all tests."""

import numpy as np
import pytest
import torch
from PIL import Image

from pretrain.training.devices import launch_fabric
from pretrain.training.loop import train
from pretrain.training.settings import load_settings


@pytest.fixture(scope="session")
def noisy_folder(tmp_path_factory):
    """Six classes of brightness under noise: no network gets all right, none gets all wrong."""
    root = tmp_path_factory.mktemp("noisy")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 7)):
        for label in range(6):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.normal(40 * label + 25, 50, (1, 1, 3)) + rng.normal(0, 30, (32, 32, 3))
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return root


@pytest.fixture(scope="session")
def train_run(tmp_path_factory, noisy_folder):
    """Return a function that trains a method for two epochs and returns the folder of the run."""

    def run(**method):
        folder = tmp_path_factory.mktemp("run")
        (folder / "config.py").write_text(
            f"""name = "tiny"
data = dict(root="{noisy_folder}", batch_size=8, workers=0, transform=dict(size=32, scale=(0.6, 1.0)))
backbone = dict(name="resnet10t")
method = dict({", ".join(f"{key}={value!r}" for key, value in method.items())})
optim = dict(lr=0.02, epochs=2)
run = dict(log_every=1, inspect_every=1)
"""
        )
        torch.manual_seed(0)
        train(load_settings(folder / "config.py"), folder / "work", resume=False, fabric=launch_fabric("32-true"))
        return folder / "work"

    return run


@pytest.fixture(scope="session")
def automix_run(train_run):
    return train_run(name="automix", momentum=0.8, momentum_end=0.95)


@pytest.fixture(scope="session")
def vanilla_run(train_run):
    return train_run(name="vanilla")
