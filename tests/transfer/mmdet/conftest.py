"""A tiny data root (VOC and COCO layout, the same pictures) and converted weights with random BatchNorm statistics."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from transfer.convert import convert
from transfer.datasets import VOC_CLASSES
from transfer.files import save

SIDE = 96
USED = (0, 7, 14)  # positions in VOC_CLASSES


@pytest.fixture(scope="session")
def data_root(tmp_path_factory) -> Path:
    """Return a folder with VOCdevkit/VOC2007, VOCdevkit/VOC2012 and coco: eight pictures to train on, four to test."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    splits = {"train": [], "val": []}
    for number in range(12):
        splits["train" if number < 8 else "val"].append(_picture(rng, number))
    for split, pictures in splits.items():
        _write_coco(root / "coco", split, pictures)
    _write_voc(root / "VOCdevkit" / "VOC2007", "trainval", splits["train"][:4])
    _write_voc(root / "VOCdevkit" / "VOC2007", "test", splits["val"])
    _write_voc(root / "VOCdevkit" / "VOC2012", "trainval", splits["train"][4:])
    return root


def _picture(rng, number):
    """Return (name, image, [(class, x, y, width, height)]): plain squares, a colour for each class, on noise."""
    pixels = rng.integers(90, 110, (SIDE, SIDE, 3), dtype=np.uint8)
    boxes = []
    for corner in ((4, 4), (50, 48)):
        kind, width, height = int(rng.choice(USED)), int(rng.integers(24, 40)), int(rng.integers(24, 40))
        x, y = corner
        pixels[y : y + height, x : x + width] = (255 * (kind == 0), 255 * (kind == 7), 255 * (kind == 14))
        boxes.append((kind, x, y, width, height))
    return f"{number:06d}", Image.fromarray(pixels), boxes


def _write_coco(folder, split, pictures):
    (folder / f"{split}2017").mkdir(parents=True)
    images, annotations = [], []
    for name, image, boxes in pictures:
        image.save(folder / f"{split}2017" / f"{name}.jpg")
        images.append({"id": int(name) + 1, "file_name": f"{name}.jpg", "width": SIDE, "height": SIDE})
        for kind, *box in boxes:
            number = len(annotations) + 1
            annotations.append(
                {
                    "id": number,
                    "image_id": int(name) + 1,
                    "category_id": kind + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(VOC_CLASSES)]
    path = folder / "annotations" / f"instances_{split}2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def _write_voc(folder, split, pictures):
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, image, boxes in pictures:
        image.save(folder / "JPEGImages" / f"{name}.jpg")
        objects = "".join(
            f"<object><name>{VOC_CLASSES[kind]}</name><difficult>0</difficult><bndbox><xmin>{x + 1}</xmin>"
            f"<ymin>{y + 1}</ymin><xmax>{x + width}</xmax><ymax>{y + height}</ymax></bndbox></object>"
            for kind, x, y, width, height in boxes
        )
        size = f"<size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>"
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    names = "".join(f"{name}\n" for name, _, _ in pictures)
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(names)


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
