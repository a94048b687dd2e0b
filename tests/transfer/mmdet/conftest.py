"""A tiny data root (VOC and COCO layout, the same pictures) and converted weights with random BatchNorm statistics."""

from pathlib import Path

import pytest
import timm
import torch
from squares import write_squares

from transfer.convert import convert
from transfer.files import save


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    """Return a folder with VOCdevkit/VOC2007, VOCdevkit/VOC2012 and coco; see `squares`."""
    root = tmp_path_factory.mktemp("data")
    write_squares(root)
    return root


def _random_backbone(arch: str) -> dict[str, torch.Tensor]:
    """Return a ResNet's state dict with random weights and random, positive BatchNorm statistics."""
    torch.manual_seed(0)
    model = timm.create_model(arch, num_classes=10)
    state = model.state_dict()
    for name, tensor in state.items():
        if name.endswith(("running_var", "bn1.weight", "bn2.weight", "bn3.weight", "downsample.1.weight")):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
        elif name.endswith("running_mean") or ("bn" in name and name.endswith("bias")):
            tensor.copy_(0.1 * torch.randn_like(tensor))
    return state


@pytest.fixture(scope="session")
def random_backbone():
    """Return the function arch -> state dict."""
    return _random_backbone


@pytest.fixture(scope="session")
def converted_weights(tmp_path_factory):
    """Return a function (arch, head) -> path of OUT.pth for MMDetection."""
    folder = tmp_path_factory.mktemp("weights")

    def make(arch: str, head: str) -> Path:
        path = folder / f"{arch}_{head}.pth"
        return path if path.exists() else save(convert(_random_backbone(arch), "mmdet", head=head), path)

    return make
