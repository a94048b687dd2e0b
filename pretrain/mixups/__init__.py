"""Mixing methods, one file each, behind one interface. A file here that holds a `MixPolicy` with a name is a method."""

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from pretrain.console import UserError, did_you_mean
from pretrain.mixups.context import training_context
from pretrain.mixups.policy import MixContext, MixPolicy, MixResult


def _found() -> dict[str, type[MixPolicy]]:
    """Return the methods of this folder's files by name."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    classes = [  # its own, not those that it imports; Python 3.10 takes list[int] for a type
        entry
        for module in modules
        for entry in vars(module).values()
        if isinstance(entry, type) and entry.__module__ == module.__name__
    ]
    return {entry.name: entry for entry in classes if issubclass(entry, MixPolicy) and hasattr(entry, "name")}


POLICIES: dict[str, type[MixPolicy]] = _found()


def build(name: str, **settings: Any) -> MixPolicy:
    """Build a mixing method by name, e.g. `build("mixup", alpha=0.2)`.

    Raises:
        UserError: There is no such method, or it has no such setting.
        ValueError: A setting's value is wrong.
    """
    if name not in POLICIES:
        raise UserError(f"unknown mixing method '{name}'{did_you_mean(name, list(POLICIES))}")
    known = list(getattr(POLICIES[name], "__dataclass_fields__", {}))
    if unknown := sorted(set(settings) - set(known)):
        raise UserError(f"mixing method '{name}' has no setting '{unknown[0]}'{did_you_mean(unknown[0], known)}")
    return POLICIES[name](**settings)


def build_from(training: Mapping[str, Any]) -> MixPolicy:
    """Build the mixing method of a training from its settings under `method`, also as a card's JSON has them.

    Args:
        training: "name" and the method's settings, with lists for tuples or not; how it is trained with, such as
            `momentum`, is passed over.

    Raises:
        UserError: There is no such method.
        ValueError: A setting's value is wrong.
    """
    name = training["name"]
    known = {entry.name for entry in fields(POLICIES[name])} if name in POLICIES else set()
    own = {key: tuple(value) if isinstance(value, list) else value for key, value in training.items() if key in known}
    return build(name, **own)


__all__ = ["POLICIES", "MixContext", "MixPolicy", "MixResult", "build", "build_from", "training_context"]
