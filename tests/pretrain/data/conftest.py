from pathlib import Path

import pytest

from pretrain.data.demo import write_demo
from pretrain.data.demo.settings import DemoSettings


@pytest.fixture(scope="session")
def tiny_settings() -> DemoSettings:
    """Settings of a demo that is written in a second."""
    return DemoSettings(
        classes=24,
        train_images=1,
        val_images=1,
        voc2007_trainval=4,
        voc2012_trainval=3,
        voc2007_test=20,
        cub_train=1,
        cub_val=1,
        cub_test=1,
    )


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, tiny_settings: DemoSettings) -> Path:
    """A complete tiny demo of seed 7; tests only read it."""
    root = tmp_path_factory.mktemp("demo") / "data"
    write_demo(root, 7, tiny_settings)
    return root
