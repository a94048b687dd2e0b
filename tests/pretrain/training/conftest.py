"""A small image folder that any network learns: the class is the brightness."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 11), ("val", 5)):
        for label in range(3):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 60, (40, 36, 3)) + 90 * label
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
    return root


@pytest.fixture
def config(tmp_path, image_folder):
    path = tmp_path / "config.py"
    path.write_text(
        f"""name = "tiny"
data = dict(root="{image_folder}", batch_size=8, workers=0, transform=dict(size=32, scale=(0.6, 1.0)))
backbone = dict(name="resnet10t")
method = dict(name="automix", momentum=0.8, momentum_end=0.95)
optim = dict(lr=0.02, epochs=4)
run = dict(log_every=1)
"""
    )
    return path
