"""What the parts of a configuration are built by, and the values that they get where it is silent."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mmdet import registry
from mmengine.registry import Registry

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters_of(name: str) -> dict[str, Any]:
    """Return {parameter: default} of the class that MMDetection knows by this name, its bases' included."""
    found: dict[str, Any] = {}
    built = find_class(name)
    for base in inspect.getmro(built) if inspect.isclass(built) else ():
        if base.__module__ != "builtins":
            for entry in inspect.signature(base).parameters.values():
                if entry.kind not in VARIADIC and entry.name != "self":
                    found.setdefault(entry.name, entry.default)
    return found


def find_class(name: str) -> Any:
    """Return the class that any of MMDetection's registries knows by this name, or None."""
    candidates = [value for value in vars(registry).values() if isinstance(value, Registry)]
    return next((found for entry in candidates if (found := entry.get(name)) is not None), None)


def effective(part: Mapping[str, Any], key: str) -> Any:
    """Return the value that a part is built with: what it says, else the default of its class, else None."""
    node: Any = part
    for name in key.split("."):
        if not isinstance(node, Mapping):
            return None
        default = parameters_of(node["type"]).get(name) if isinstance(node.get("type"), str) else None
        node = node.get(name, None if default is inspect.Parameter.empty else default)
    return node
