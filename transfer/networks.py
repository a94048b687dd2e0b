"""What a backbone computes stage by stage, in the library whose names its weights have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from timm.models.swin_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from pretrain.backbones import BackboneCard, build_backbone
from pretrain.console import UserError
from transfer.architectures import CONSTANTS, COUNTER, SWIN
from transfer.stages import STAGES, recorded


@torch.no_grad()
def stage_features(
    framework: str, card: BackboneCard, weights: Mapping[str, Tensor], images: Tensor, head: str | None = None
) -> dict[str, Tensor]:
    """Return what the framework's own network computes after its stem and its four stages, in eval mode.

    Args:
        framework: Whose network it is, and whose names the weights have: "torchvision", "timm", "microsoft" (Swin),
            "detectron2" or "mmdet". The last two are imported only here.
        card: Architecture and stride style.
        weights: {name: tensor}; a classifier's are not needed.
        images: (N, 3, H, W) float32 or float64, as which the network is run; normalised; H and W multiples of 32, for
            a Swin transformer of 224.
        head: "c4" or "fpn" for the names within a detector; None for those within the backbone alone.

    Returns:
        {"stem", "layer1", ..., "layer4", and "norm" behind the last stage of a Swin transformer: (N, C, h, w)}.

    Raises:
        UserError: The weights do not fill the network exactly, or the framework has none of this architecture.
    """
    if framework in ("torchvision", "timm", "microsoft"):
        return _library_features(framework, card.arch, weights, images)
    if head is None:
        head, prefix = "fpn", {"detectron2": "backbone.bottom_up.", "mmdet": "backbone."}[framework]
        weights = {prefix + name: tensor for name, tensor in weights.items()}
    if framework == "mmdet":
        from transfer.mmdet import features as mmdet_features

        return mmdet_features.stage_features(weights, card, images, head)
    from transfer.d2 import features as detectron2_features

    return detectron2_features.stage_features(weights, card, images, head)


@torch.no_grad()
def network_input(framework: str, card: BackboneCard, images: Tensor) -> Tensor:
    """Return what a detector of the framework feeds its backbone, by the preprocessing that the card writes for it.

    Args:
        framework: "detectron2" or "mmdet".
        card: Of the converted weights.
        images: (N, 3, H, W) float32 in [0, 255], RGB; H and W multiples of 32.
    """
    if framework == "mmdet":
        from transfer.mmdet import features as mmdet_features

        return mmdet_features.network_input(card, images)
    from transfer.d2 import features as detectron2_features

    return detectron2_features.network_input(card, images)


def _library_features(framework: str, arch: str, weights: Mapping[str, Tensor], images: Tensor) -> dict[str, Tensor]:
    model = _build(framework, arch, tuple(images.shape[-2:]))
    own = set(model.state_dict())
    heads = ("fc.", "head.")
    if framework == "microsoft":  # the authors' names: timm reads them by a map of its own
        weights = checkpoint_filter_fn(dict(weights), model)
    given = {name: tensor for name, tensor in weights.items() if name in own or not name.startswith(heads)}
    given = {name: tensor for name, tensor in given.items() if not name.endswith(CONSTANTS) or name in own}
    try:
        keys = model.load_state_dict(given, strict=False)
    except RuntimeError as error:
        raise UserError(f"{framework} {arch}: {' '.join(str(error).split())}") from error
    missing = [name for name in keys.missing_keys if not name.endswith((COUNTER, *CONSTANTS))]
    if missing or keys.unexpected_keys:
        raise UserError(f"{framework} {arch}: no exact fit: {', '.join([*missing, *keys.unexpected_keys])}")
    model.to(images.dtype)
    return _swin_stages(model, images) if arch == SWIN else _resnet_stages(model, images)


def _build(framework: str, arch: str, size: tuple[int, ...]) -> Any:
    """Return the library's network without its classifier, in eval mode; its random weights leave no trace."""
    name = "swin_t" if arch == SWIN else arch
    model: Any
    with torch.random.fork_rng(devices=[]):
        if framework == "torchvision" and name in torchvision.models.list_models():  # of the others it has the names
            model = torchvision.models.get_model(name)
            for classifier in ("fc", "head"):
                if hasattr(model, classifier):
                    setattr(model, classifier, nn.Identity())
            return model.eval()
        settings: dict[str, Any] = {"img_size": size} if arch == SWIN else {}
        model = build_backbone(arch, 0, **settings)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            vars(module)["fused_attn"] = False  # written out, as elsewhere: a fused one may round otherwise
    return model.eval()


def _resnet_stages(model: Any, images: Tensor) -> dict[str, Tensor]:
    activation = model.act1 if hasattr(model, "act1") else model.relu
    below = model.maxpool(activation(model.bn1(model.conv1(images))))
    features = {"stem": below}
    for stage in STAGES:
        below = features[stage] = getattr(model, stage)(below)
    return features


def _swin_stages(model: Any, images: Tensor) -> dict[str, Tensor]:
    """Return the features of a Swin transformer of torchvision or timm, which hold (N, h, w, C) inside."""
    if hasattr(model, "features"):
        modules = {"stem": model.features[0], **{stage: model.features[2 * i + 1] for i, stage in enumerate(STAGES)}}
    else:
        modules = {"stem": model.patch_embed, **dict(zip(STAGES, model.layers))}
    return recorded({**modules, "norm": model.norm}, lambda: model(images), lambda out: out.permute(0, 3, 1, 2))
