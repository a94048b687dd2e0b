"""One pool of two processes for all tests of this folder, and the small image folder that they train on."""

import numpy as np
import pytest
import torch
from PIL import Image
from two_ranks import TwoRanks


@pytest.fixture(scope="session")
def two_ranks():
    pool = TwoRanks()
    yield pool
    pool.stop()


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """One process alone computes with one thread too, as each rank does; several wait for each other on busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    """26 training and 18 validation images of two classes: three batches of eight, and no even share of the rest."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 13), ("val", 9)):
        for label in range(2):
            folder = root / split / str(label)
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (32, 32, 3)) + 60 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture(scope="session")
def config(tmp_path_factory, image_folder):
    """A run of two epochs, six steps; `test_resnet` is timm's smallest ResNet, with batch norm."""
    path = tmp_path_factory.mktemp("config") / "config.py"
    path.write_text(
        f'name = "two"\ndata = dict(root="{image_folder}", batch_size=8, workers=0, transform=dict(size=32))\n'
        'backbone = dict(name="test_resnet")\nmethod = dict(name="automix", momentum=0.8)\n'
        "optim = dict(lr=0.02, epochs=2)\nrun = dict(log_every=1)\n"
    )
    return path
