"""Table 12: the settings of the configs, in the words of the paper's table of ingredients."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretrain.training.cells import cells

if TYPE_CHECKING:
    from pretrain.training.settings import Settings

OPTIMIZERS = {"momentum": "SGD", "adamw": "AdamW", "lamb": "LAMB"}
OF_PROCEDURE: dict[str, tuple[int, str]] = {  # the table whose configs train by it, and what their names hold
    "PyTorch": (2, ""),
    "DeiT": (4, ""),
    "RSB A2": (3, "_a2_"),
    "RSB A3": (3, "_a3_"),
}


def _flag(value: Any) -> str:
    return "yes" if value else "no"


def _number(value: float | None) -> str:
    return f"{value:.6g}" if value else "no"


def _rand_augment(settings: Settings) -> str:
    """Return "9/0.5" of timm's "rand-m9-mstd0.5-inc1": magnitude and its deviation."""
    name = settings.data.transform.auto_augment or ""
    if not name.startswith("rand-"):
        return "no"
    parts = name.split("-")
    deviation = [part.removeprefix("mstd") for part in parts if part.startswith("mstd")]
    magnitude = [part.removeprefix("m") for part in parts if part.startswith("m") and not part.startswith("mstd")]
    return "/".join([*magnitude, *deviation])


def _auto_augment(settings: Settings) -> str:
    name = settings.data.transform.auto_augment
    return _flag(name and not name.startswith("rand-"))


INGREDIENTS: dict[str, Callable[[Settings], str]] = {
    "Train Res": lambda s: str(s.data.transform.size),
    "Test Res": lambda s: str(s.data.transform.test_size or s.data.transform.size),
    "Test crop ratio": lambda s: _number(s.data.transform.test_crop_ratio),
    "Epochs": lambda s: str(s.optim.epochs),
    "Batch size": lambda s: str(s.data.batch_size),
    "Optimizer": lambda s: OPTIMIZERS.get(s.optim.name, s.optim.name),
    "LR": lambda s: _number(s.optim.lr),
    "LR decay": lambda s: "cosine",  # the only schedule that pretraining has
    "Weight decay": lambda s: _number(s.optim.weight_decay),
    "Warmup epochs": lambda s: _number(s.optim.warmup_epochs),
    "Label smoothing": lambda s: _number(s.loss.smoothing),
    "Dropout": lambda s: _number(s.backbone.drop_rate),
    "Stoch. Depth": lambda s: _number(s.backbone.drop_path_rate),
    "Repeated Aug": lambda s: _flag(s.data.repeated_augmentation > 1),
    "Gradient Clip.": lambda s: _number(s.optim.clip_norm),
    "H. flip": lambda s: _flag(s.data.transform.flip),
    "RRC": lambda s: _flag(s.data.transform.train_crop == "resized"),
    "Rand Augment": _rand_augment,
    "Auto Augment": _auto_augment,
    "Mixup alpha": lambda s: _number(getattr(s.method, "mixup_alpha", None)),
    "Cutmix alpha": lambda s: _number(getattr(s.method, "cutmix_alpha", None)),
    "Erasing prob.": lambda s: _number(s.data.transform.erasing),
    "ColorJitter": lambda s: _flag(s.data.transform.color_jitter),
    "EMA": lambda s: _flag(s.optim.ema_decay),
    "CE loss": lambda s: _flag(s.loss.name == "ce"),
    "BCE loss": lambda s: _flag(s.loss.name == "bce"),
    "Mixed precision": lambda s: _flag(s.run.precision != "32-true"),
}


def ours(ingredient: str, procedure: str) -> str:
    """Return what the configs of a procedure have, "100/300" where they differ."""
    return "/".join(dict.fromkeys(INGREDIENTS[ingredient](settings) for settings in _settings(procedure)))


def configs_of(procedure: str) -> list[Path]:
    """Return the configs that train by a procedure, in the order of the paper's tables."""
    table, part = OF_PROCEDURE[procedure]
    return list(dict.fromkeys(cell.path for cell in cells(table) if part in cell.config))


@cache
def _settings(procedure: str) -> list[Settings]:
    """Return the settings of the procedure's configs, by the method that Table 12 describes."""
    from pretrain.training.settings import load_settings  # late: it brings torch

    method = "vanilla" if procedure == "PyTorch" else "random_choice"
    return [load_settings(path, method=method) for path in configs_of(procedure)]
