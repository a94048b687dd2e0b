"""What MMDetection computes from converted weights, stage by stage, for the proof of parity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.registry import MODELS
from torch import Tensor, nn

import transfer.mmdet.heads  # noqa: F401  (registers ResLayerExtraNorm)
from pretrain.backbones import BackboneCard
from pretrain.console import UserError
from transfer.architectures import CONSTANTS, COUNTER, SWIN
from transfer.cards import mmdet_preprocessing, mmdet_values
from transfer.stages import STAGES, recorded

BACKBONE = "backbone."
LAST_STAGE = "roi_head.shared_head.layer4."


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
        parts: dict[str, Any] = {BACKBONE: backbone}
        if head == "c4":
            parts[LAST_STAGE] = MODELS.build(values["roi_head"]["shared_head"]).layer4
    _load_strictly(parts, state_dict, images)
    modules = {"stem": backbone.maxpool, **{name: getattr(backbone, name) for name in STAGES[:stages]}}
    if head == "c4":
        modules["layer4"] = parts[LAST_STAGE]
        return recorded(modules, lambda: modules["layer4"](backbone(images)[0]), lambda output: output)
    return recorded(modules, lambda: backbone(images), lambda output: output)


def _swin_features(network: Any, state_dict: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    _load_strictly({BACKBONE: network}, state_dict, images)

    def run() -> None:
        [features["norm"]] = network(images)

    def read(output: Any) -> Tensor:
        tokens, (height, width) = output[-2:]  # of a stage, behind what its patch merging made of them
        channels_last: Tensor = tokens.unflatten(1, (height, width))
        return channels_last.permute(0, 3, 1, 2)

    features: dict[str, Tensor] = {}
    return {**recorded({"stem": network.patch_embed, **dict(zip(STAGES, network.stages))}, run, read), **features}


def _load_strictly(parts: Mapping[str, nn.Module], state_dict: Mapping[str, Tensor], images: Tensor) -> None:
    """Load each part from the names under its prefix, in eval mode and in the images' precision.

    Only what has no effect or is constant may be missing.
    """
    left_over = [name for name in state_dict if not name.startswith(tuple(parts))]
    for prefix, part in parts.items():
        weights = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
        try:
            wrong = part.load_state_dict(weights, strict=False)
        except RuntimeError as error:
            raise UserError(f"converted weights: {' '.join(str(error).split())}") from error
        left_over += [prefix + name for name in wrong.unexpected_keys]
        left_over += [prefix + name for name in wrong.missing_keys if not name.endswith((COUNTER, *CONSTANTS))]
        part.eval()  # mmdet's returns None
        part.to(images)
    if left_over:
        raise UserError(f"converted weights: left over or missing in MMDetection's network: {', '.join(left_over)}")


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
