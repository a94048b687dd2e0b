"""Which feature map a classifier averages over its positions before its head, seen from the calls of a forward pass.

Networks average by a module, by a function or by `Tensor.mean`, and some change the map in place just before
(torchvision's DenseNet). Only the call itself tells which tensor it was, whatever the network's modules are named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

CHANNELS_FIRST, CHANNELS_LAST = (2, 3), (1, 2)  # the axes of the positions


class Averages(TorchFunctionMode):
    """Within it, every average of a map over its positions is noted; global average pooling is a network's last.

    A map of one place does not count: nothing could be localised on it.

    Args:
        tap: Called with a map, as the network holds it, before it is averaged; its result is averaged in its place.
        at: The number of the average that goes through `tap`, from 1.

    Attributes:
        count: Averages so far.
        positions: The axes of the last map's positions.
    """

    def __init__(self, tap: Callable[[Tensor], Tensor] | None = None, at: int = 0) -> None:
        super().__init__()
        self.tap, self.at = tap, at
        self.count = 0
        self.positions = CHANNELS_FIRST
        self._last: Tensor | None = None

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Note the call if it is an average over positions, and make it."""
        kwargs = kwargs or {}
        positions = _positions(function, args, kwargs)
        if positions is not None:
            self.count += 1
            if self.tap is not None and self.count == self.at:
                args = (self.tap(args[0]), *args[1:])
            self.positions, self._last = positions, args[0]
        return function(*args, **kwargs)

    @property
    def last(self) -> Tensor | None:
        """The last map that was averaged, (N, C, h, w); None where there was none."""
        return None if self._last is None else channels_first(self._last, self.positions)


def channels_first(features: Tensor, positions: tuple[int, int]) -> Tensor:
    """Return a map as (N, C, h, w), given the axes of its positions."""
    return features if positions == CHANNELS_FIRST else features.permute(0, 3, 1, 2)


def _positions(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int] | None:
    """Return the axes over which a call averages, if it is of the kind that is looked for."""
    if not args or not isinstance(args[0], Tensor) or args[0].ndim != 4:
        return None
    if function is functional.adaptive_avg_pool2d:
        axes = CHANNELS_FIRST
    elif function in (torch.Tensor.mean, torch.mean):
        given = args[1] if len(args) > 1 else kwargs.get("dim")
        if not isinstance(given, Iterable) or len(found := sorted(int(axis) % 4 for axis in given)) != 2:
            return None
        axes = (found[0], found[1])
        if axes not in (CHANNELS_FIRST, CHANNELS_LAST):
            return None
    else:
        return None
    return axes if args[0].shape[axes[0]] * args[0].shape[axes[1]] > 1 else None
