"""Settings of the semi-synthetic demo, and what follows from them: counts, room on the disk, may a folder go on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pretrain.console import UserError
from pretrain.data.demo.drawings import BIRDS, CLASSES
from pretrain.data.demo.scenes import SceneStyle
from pretrain.files import read_json

FORMAT = 1  # counts up whenever the same settings would give other pictures
SETS = (
    *("classification/train", "classification/val", "voc2007/trainval", "voc2012/trainval", "voc2007/test"),
    *("cub/train", "cub/val", "cub/test"),
)


@dataclass(frozen=True)
class DemoSettings:
    """How many pictures, and how they look.

    Attributes:
        classes: Classes of the classification set; the birds come first, then the others in the table's order.
        train_images, val_images: Pictures of each class there.
        voc2007_trainval, voc2012_trainval, voc2007_test: Pictures of each detection set; 20 or more hold every class.
        voc_objects: Fewest and most objects in a picture of these.
        cub_train, cub_val, cub_test: Pictures of each bird.
        classification_style, detection_style, cub_style: How their scenes look.
    """

    classes: int = 100
    train_images: int = 20
    val_images: int = 5
    voc2007_trainval: int = 120
    voc2012_trainval: int = 120
    voc2007_test: int = 80
    voc_objects: tuple[int, int] = (1, 3)
    cub_train: int = 6
    cub_val: int = 2
    cub_test: int = 3
    classification_style: SceneStyle = field(default_factory=lambda: SceneStyle(sizes=((72, 72),)))
    detection_style: SceneStyle = field(
        default_factory=lambda: SceneStyle(
            sizes=((128, 128), (128, 112), (112, 128), (144, 112), (128, 96)),
            side=(0.25, 0.56),
            distractors=(1, 4),
            occlusion=0.3,
            truncation=0.25,
            min_visible=0.45,
        )
    )
    cub_style: SceneStyle = field(
        default_factory=lambda: SceneStyle(
            sizes=((160, 128), (128, 160), (160, 120), (144, 128), (128, 144), (152, 136)),
            side=(0.3, 0.7),
            distractors=(1, 4),
            truncation=0.0,
            min_visible=0.75,
        )
    )

    def __post_init__(self) -> None:
        if not len(BIRDS) <= self.classes <= len(CLASSES):
            raise UserError(
                f"demo: classes is {self.classes}; the birds need {len(BIRDS)}, and there are {len(CLASSES)}"
            )
        if few := [item.name for item in fields(self) if item.type == "int" and getattr(self, item.name) < 1]:
            raise UserError(f"demo: {', '.join(few)} must be at least 1")

    def class_names(self) -> list[str]:
        """Return the names of the classification set's classes, all birds among them, in alphabetical order."""
        others = [name for name in CLASSES if name not in BIRDS]
        return sorted([*BIRDS, *others[: self.classes - len(BIRDS)]])


def picture_counts(settings: DemoSettings) -> dict[str, int]:
    """Return the number of pictures of each of SETS."""
    each = (
        *(settings.classes * settings.train_images, settings.classes * settings.val_images),
        *(settings.voc2007_trainval, settings.voc2012_trainval, settings.voc2007_test),
        *(len(BIRDS) * settings.cub_train, len(BIRDS) * settings.cub_val, len(BIRDS) * settings.cub_test),
    )
    return dict(zip(SETS, each))


def bytes_needed(settings: DemoSettings, counts: dict[str, int]) -> int:
    """Return a generous estimate: a byte a pixel (JPEG takes half of that), 8 KiB a file, twice for detection."""
    styles = {"cla": settings.classification_style, "voc": settings.detection_style, "cub": settings.cub_style}
    total = 4 << 20
    for name, number in counts.items():
        largest = max(width * height for width, height in styles[name[:3]].sizes)
        total += number * (largest + 8192) * (2 if name.startswith("voc") else 1)
    return total


def as_written(seed: int, settings: DemoSettings) -> dict[str, Any]:
    """Return seed and settings as JSON holds them (tuples become lists)."""
    plain: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, "seed": seed, "settings": asdict(settings)}))
    return plain


def require_same_settings(root: Path, wanted: dict[str, Any]) -> None:
    """Raise a UserError if `root` was begun with other settings, naming them, or holds something that is no demo.

    Args:
        root: The demo's folder; it may be missing or empty.
        wanted: See `as_written`.
    """
    if not root.exists() or not any(root.iterdir()):
        return
    begun = root / "settings.json"
    if not begun.exists():
        raise UserError(f"{root}: the folder holds other things than demo data; give an empty or a new one")
    there, here = _flat(read_json(begun)), _flat(wanted)
    if differences := [
        f"{key} is {there.get(key)} there and {here.get(key)} here"
        for key in sorted(there.keys() | here.keys())
        if there.get(key) != here.get(key)
    ]:
        raise UserError(
            f"{root}: holds demo data of other settings ({'; '.join(differences)}); "
            "use the same ones, give another folder, or delete this one"
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one, with keys joined by dots."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        key: leaf for name, inner in value.items() for key, leaf in _flat(inner, f"{prefix}.{name}".strip(".")).items()
    }
