"""Which settings of a configuration in mmengine's form decide what comes out of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The rest names the run, or says where and how conveniently it runs.
DECISIVE = (
    *("model", "train_dataloader", "val_dataloader", "val_evaluator", "train_cfg", "val_cfg", "optim_wrapper"),
    *("param_scheduler", "custom_hooks"),
)


def settings_of(cfg: Mapping[str, Any], batch: int) -> dict[str, Any]:
    """Return {dotted key: value as JSON holds it} of what decides the outcome, wherever the data lie.

    Args:
        cfg: The configuration.
        batch: Images in a step, which may be shared out among any number of processes.
    """
    settings: dict[str, Any] = {"batch": batch}
    root = str(cfg["data_root"])

    def take(key: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, entry in value.items():
                take(f"{key}.{name}", entry)
        elif isinstance(value, (list, tuple)) and any(isinstance(entry, Mapping) for entry in value):
            for number, entry in enumerate(value):
                take(f"{key}.{number}", entry)
        elif isinstance(value, (list, tuple)):
            settings[key] = [*value]
        elif value is not None and key != "train_dataloader.batch_size" and not key.endswith("data_root"):
            settings[key] = value if isinstance(value, (bool, int, float)) else str(value).removeprefix(root)

    for key in DECISIVE:
        take(key, cfg.get(key))
    return settings
