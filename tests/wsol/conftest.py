"""A small CUB_200_2011 tree in the real layout, and an exported network for it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

from pretrain.backbones import BackboneCard, build_backbone, export_backbone

CLASSES = ("Black_footed_Albatross", "Laysan_Albatross", "Sooty_Albatross")
IMAGES_PER_CLASS = 4
TOOL = Path(__file__).parents[2] / "tools" / "eval_wsol.py"
Tool = Callable[..., tuple[int, str, str]]

# The same examples in every run, and no clock: a machine that does other work too may take any time for one of them.
# `pytest tests/wsol --hypothesis-profile default` looks for new examples.
settings.register_profile("tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@dataclass
class Tree:
    root: Path
    ids: list[str]
    boxes: np.ndarray  # (n, 4) x, y, width, height, as CUB writes them
    sizes: list[tuple[int, int]]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Twelve images of three classes; every second one is a test image. A bright rectangle lies in each box."""
    rng = np.random.default_rng(3)
    root = tmp_path / "CUB_200_2011"
    ids, boxes, sizes, labels = [], [], [], []
    for label, name in enumerate(CLASSES):
        for number in range(IMAGES_PER_CLASS):
            image_id = f"{label + 1:03d}.{name}/{name}_{number:04d}.jpg"
            width, height = (int(side) for side in rng.integers(40, 90, 2))
            x, y = int(rng.integers(0, width // 2)), int(rng.integers(0, height // 2))
            w, h = int(rng.integers(8, width - x)), int(rng.integers(8, height - y))
            pixels = rng.integers(0, 90, (height, width, 3)).astype(np.uint8)
            pixels[y : y + h, x : x + w] = (200, 80 * label, 120)
            path = root / "images" / image_id
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            ids.append(image_id)
            boxes.append((x, y, w, h))
            sizes.append((width, height))
            labels.append(label)
    numbers = range(1, len(ids) + 1)
    files = {
        "images.txt": [f"{n} {image_id}" for n, image_id in zip(numbers, ids)],
        "image_class_labels.txt": [f"{n} {label + 1}" for n, label in zip(numbers, labels)],
        "train_test_split.txt": [f"{n} {n % 2}" for n in numbers],
        "bounding_boxes.txt": [f"{n} {x}.0 {y}.0 {w}.0 {h}.0" for n, (x, y, w, h) in zip(numbers, boxes)],
        "classes.txt": [f"{n} {n:03d}.{name}" for n, name in enumerate(CLASSES, start=1)],
    }
    for name, lines in files.items():
        (root / name).write_text("\n".join(lines) + "\n")
    return Tree(root, ids, np.array(boxes), sizes)


@pytest.fixture
def metadata(tree: Tree, tmp_path: Path) -> Path:
    """wsolevaluation's files for the test split of the tree, in a folder of their own; no newline at the end."""
    folder = tmp_path / "metadata" / "test"
    folder.mkdir(parents=True)
    chosen = [n for n in range(len(tree.ids)) if (n + 1) % 2 == 0]
    corners = np.concatenate([tree.boxes[:, :2], tree.boxes[:, :2] + tree.boxes[:, 2:]], axis=1)
    files = {
        "image_ids.txt": [tree.ids[n] for n in chosen],
        "class_labels.txt": [f"{tree.ids[n]},{n // IMAGES_PER_CLASS}" for n in chosen],
        "image_sizes.txt": [f"{tree.ids[n]},{tree.sizes[n][0]},{tree.sizes[n][1]}" for n in chosen],
        "localization.txt": [f"{tree.ids[n]},{','.join(map(str, corners[n]))}" for n in chosen],
    }
    for name, lines in files.items():
        (folder / name).write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random resnet18 for the tree's classes and two more, in another order; tests only read it."""
    path = tmp_path_factory.mktemp("checkpoint") / "teacher.safetensors"
    torch.manual_seed(0)
    classes = ("duck", CLASSES[2], CLASSES[0], "owl", f"002.{CLASSES[1]}")
    card = BackboneCard("resnet18", classes, method="automix", branch="teacher", input_size=(64, 64))
    model = build_backbone("resnet18", len(classes))
    torch.nn.init.normal_(model.fc.weight)
    export_backbone(model, card, path)
    return path


@pytest.fixture
def eval_wsol(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tool:
    """tools/eval_wsol.py in this process: its status, and what it wrote to stdout and to stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run_path(str(TOOL), run_name="__main__")
        return ended.value.code, *capsys.readouterr()

    return run
