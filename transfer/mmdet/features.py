"""What MMDetection computes from converted weights, stage by stage, for the proof of parity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

import transfer.mmdet.heads  # noqa: F401  (registers ResLayerExtraNorm)
from pretrain.backbones import BackboneCard
from transfer.architectures import SWIN
from transfer.cards import mmdet_preprocessing, mmdet_values
from transfer.stages import STAGES, recorded
from transfer.weights import load_exact


@torch.no_grad()
def stage_features(
    state_dict: Mapping[str, Tensor], card: BackboneCard, images: Tensor, head: str = "c4"
) -> dict[str, Tensor]:
    """Run MMDetection's backbone, and stage 4 of the RoI head where it has one, on normalised images.

    Args:
        state_dict: Converted weights under MMDetection's exact names: all of them under `backbone.` for "fpn";
            for "c4" the last stage under `roi_head.shared_head.`. None may be left over or missing.
        card: Of the converted weights, which decides the architecture and where the stride sits.
        images: (N, 3, H, W) float32 or float64, as which the network is run; normalised; H and W multiples of 32.
        head: "c4" or "fpn".

    Returns:
        {"stem", "layer1", ..., "layer4": (N, C, h, w)}. For "c4", layer4 is the RoI head's, applied to the whole map of
        layer3. For a Swin transformer also "norm", behind the last stage.

    Raises:
        UserError: The names or shapes do not fit exactly.
    """
    values = mmdet_values(card, head)
    with torch.random.fork_rng(devices=[]):
        if card.arch == SWIN:
            return _swin_features(MODELS.build({**values["backbone"], "out_indices": (3,)}), state_dict, images)
        stages = 3 if head == "c4" else 4
        backbone = MODELS.build(
            {
                **values["backbone"],
                "num_stages": stages,
                "strides": (1, 2, 2, 2)[:stages],
                "dilations": (1,) * stages,
                "out_indices": (stages - 1,),
            }
        )
        shared_head = MODELS.build(values["roi_head"]["shared_head"]) if head == "c4" else None
    _fill(backbone, shared_head, state_dict, images)
    modules = {"stem": backbone.maxpool, **{name: getattr(backbone, name) for name in STAGES[:stages]}}
    if shared_head is not None:
        last = modules["layer4"] = shared_head.layer4
        return recorded(modules, lambda: last(backbone(images)[0]), lambda output: output)
    return recorded(modules, lambda: backbone(images), lambda output: output)


def _swin_features(network: Any, state_dict: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    _fill(network, None, state_dict, images)

    def run() -> None:
        [features["norm"]] = network(images)

    def read(output: Any) -> Tensor:
        tokens, (height, width) = output[-2:]  # of a stage, behind what its patch merging made of them
        channels_last: Tensor = tokens.unflatten(1, (height, width))
        return channels_last.permute(0, 3, 1, 2)

    features: dict[str, Tensor] = {}
    return {**recorded({"stem": network.patch_embed, **dict(zip(STAGES, network.stages))}, run, read), **features}


def _fill(backbone: nn.Module, shared_head: nn.Module | None, weights: Mapping[str, Tensor], images: Tensor) -> None:
    """Load the parts of a detector that the weights fill, in eval mode and in the images' precision."""
    detector = nn.Module()
    detector.backbone = backbone
    detector.roi_head = nn.Module()
    if shared_head is not None:
        detector.roi_head.shared_head = shared_head
    load_exact(detector, weights, "mmdet", "converted weights")
    detector.eval()
    detector.to(images)


@torch.no_grad()
def network_input(card: BackboneCard, images: Tensor) -> Tensor:
    """Return what MMDetection feeds its backbone for raw RGB pictures, under the config that the card writes.

    Args:
        card: Of the converted weights.
        images: (N, 3, H, W) float32 in [0, 255], RGB; H and W multiples of 32.
    """
    preprocessor = MODELS.build({"type": "DetDataPreprocessor", **mmdet_preprocessing(card)})
    read = [image.flip(0) for image in images]  # as MMDetection's data sets read a picture: BGR
    prepared: Tensor = preprocessor({"inputs": read, "data_samples": None})["inputs"]
    return prepared
