"""Two classification heads on one network, as in the authors' code: one for clean images, one for mixed ones."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pretrain.backbones import init_head
from pretrain.console import UserError


class TwoHeads(nn.Module):
    """A classifier with a second head for mixed images; inference and export use the first.

    Args:
        network: A classifier of `build_backbone` whose head is one linear layer.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        classifier: Any = network
        head = classifier.get_classifier()
        if not isinstance(head, nn.Linear):
            raise UserError(f"heads=2 needs a network with a linear head, not {type(head).__name__}; use heads=1")
        self.network = network
        self.mixed_head = copy.deepcopy(head)
        init_head(self.mixed_head)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of clean images."""
        return self.network(images)

    def compile(self, *arguments: Any, **options: Any) -> None:
        """Let torch.compile translate the network for both heads; arguments are its own."""
        self.network.compile(*arguments, **options)
        self.forward_mixed = torch.compile(self.forward_mixed, *arguments, **options)  # type: ignore[method-assign]

    def forward_mixed(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of mixed images."""
        return self.mixed_head(self.pre_logits(images))

    def pre_logits(self, images: Tensor) -> Tensor:
        """Return what either head sees, (N, C)."""
        return pre_logits(self.network, images)


def pre_logits(network: nn.Module, images: Tensor) -> Tensor:
    """Return what the head of a classifier of `build_backbone` sees, (N, C)."""
    classifier: Any = network
    return classifier.forward_head(classifier.forward_features(images), pre_logits=True)


def mixed_logits(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits (N, K) of mixed images."""
    return network.forward_mixed(images) if isinstance(network, TwoHeads) else network(images)


def one_hot_network(network: nn.Module) -> nn.Module:
    """Return the classifier that is evaluated and exported."""
    return network.network if isinstance(network, TwoHeads) else network
