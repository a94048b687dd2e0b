"""The stages at which two networks are compared, and what a network computes there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

STAGES = ("layer1", "layer2", "layer3", "layer4")  # torchvision's words, for all networks


def recorded(
    modules: Mapping[str, nn.Module], run: Callable[[], Any], read: Callable[[Any], Tensor]
) -> dict[str, Tensor]:
    """Run a network and return {name: what `read` makes of the module's output} for the modules."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            found[name] = read(output)

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    run()
    for handle in handles:
        handle.remove()
    return found
