"""Whether configs can be built: network, method, optimizer, schedule and transforms, without data or weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from PIL import Image

from pretrain.console import UserError
from pretrain.data.transforms import eval_transform, train_transform
from pretrain.training.cells import CONFIGS, cells
from pretrain.training.methods import untrained_method_of
from pretrain.training.optim import Schedule, build_optimizer
from pretrain.training.settings import Settings, load_settings, methods_of

CLASSES = 10
STUDIES = tuple(CONFIGS / "study" / f"{name}.py" for name in ("scenes", "digits"))


@dataclass(frozen=True)
class Built:
    """What came of one method of one config; `problem` is None where everything could be built."""

    path: Path
    method: str
    problem: str | None = None


def config_files() -> list[Path]:
    """Return every config of pretraining, but for the bases that others inherit from."""
    found = [CONFIGS / "quickstart" / "pretrain.py", *STUDIES, *sorted((CONFIGS / "pretrain").glob("*/*.py"))]
    return [path for path in found if not path.stem.startswith("base")]


def check_all(paths: list[Path]) -> Iterator[Built]:
    """Build each config: by every method that it has settings for where it compares methods, else by its own.

    Those that compare are the columns of the tables and the studies.
    """
    columns = {*(cell.path for cell in cells()), *STUDIES}
    for path in paths:
        for method in methods_of(path)[: None if path in columns else 1]:
            yield check(path, method)


def check(path: Path, method: str) -> Built:
    """Build one method of a config on the meta device, which holds shapes and no numbers."""
    try:
        build(load_settings(path, method=method))
    except UserError as error:
        return Built(path, method, str(error))
    return Built(path, method)


def build(settings: Settings) -> None:
    """Build everything of a run that needs neither data nor weights.

    Raises:
        UserError: Something of it cannot be built.
    """
    start = settings.backbone.pretrained
    if start and start not in timm.list_pretrained():
        raise UserError(f"backbone.pretrained '{start}' is not one of timm's pretrained networks")
    with torch.device("meta"):
        method = untrained_method_of(settings, CLASSES)
        Schedule(build_optimizer(method, settings.optim, settings.data.batch_size), settings.optim, steps_per_epoch=10)
    image = Image.new("RGB", (300, 200))
    transform = settings.data.transform
    sides = (
        (train_transform(transform), transform.size),
        (eval_transform(transform), transform.test_size or transform.size),
    )
    for made, side in sides:
        if (shape := tuple(made(image).shape)) != (3, side, side):
            raise UserError(f"data.transform gives images of {shape}, not of side {side}")
