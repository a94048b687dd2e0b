"""The exported backbone: what pretraining hands to detection and to localisation.

Two files side by side: `NAME.safetensors` holds the weights, under timm's names; `NAME.json` is the card, which says
how images must be prepared for them. The card is what makes a wrong preprocessing impossible downstream.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pretrain.backbones.registry import build_backbone, takes_image_size
from pretrain.console import UserError
from pretrain.files import atomic_path, read_json, sha256, write_json


@dataclass(frozen=True)
class BackboneCard:
    """How the weights were made and how images must be prepared for them.

    Attributes:
        arch: timm's name of the architecture, e.g. "resnet18".
        classes: Names of the classes, in the order of the logits.
        stem: "imagenet" (7x7 convolution of stride 2, max pooling) or "cifar" (3x3 convolution of stride 1).
        stride_style: "pytorch": the stride of a bottleneck sits in its 3x3 convolution.
        channel_order: Order of the image channels, always "RGB" here.
        mean, std: Normalisation per channel, on images in [0, 1].
        input_size: Height and width of the training images, pixels; a network that is built for one image size, such
            as DeiT, is built for this one.
        method: Training method, e.g. "automix".
        branch: Which network of the method was exported: "teacher", "student", or "model" where there is one.
        training: The settings of the run, as plain values.
        metrics: What was measured at export, e.g. {"top1": 41.2} in percent.
        environment: Versions of what trained it.
        sha256: Digest of the weights file, 64 hexadecimal digits; filled in by `export_backbone`.
        format: Version of this card.
    """

    arch: str
    classes: tuple[str, ...]
    stem: str = "imagenet"
    stride_style: str = "pytorch"
    channel_order: str = "RGB"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    input_size: tuple[int, int] = (224, 224)
    method: str = ""
    branch: str = "model"
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    sha256: str = ""
    format: int = 1


def export_backbone(model: nn.Module, card: BackboneCard, path: str | Path) -> BackboneCard:
    """Write `path` (.safetensors) and the card beside it (.json), each atomically, the card last.

    Returns:
        The card as written, with the digest of the weights.
    """
    path = Path(path).with_suffix(".safetensors")
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
    card = replace(card, sha256=sha256(path))
    write_json(path.with_suffix(".json"), asdict(card))
    return card


def read_card(path: str | Path) -> BackboneCard:
    """Read the card of an exported backbone, given the path of its weights or of the card.

    Raises:
        UserError: The card is missing, damaged, or of another format.
    """
    path = Path(path).with_suffix(".json")
    values = read_json(path)
    known = {entry.name for entry in fields(BackboneCard)}
    if not isinstance(values, dict) or not {"arch", "classes", "sha256"} <= set(values):
        raise UserError(f"{path}: not the card of an exported backbone (it needs arch, classes and sha256)")
    if unknown := sorted(set(values) - known):
        raise UserError(f"{path}: unknown entries {', '.join(unknown)}; was it written by a newer version?")
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return BackboneCard(**{**values, **lists})


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of an exported backbone and check them against the card's digest.

    Raises:
        UserError: The file is missing, damaged, or not the one that the card describes.
    """
    path = Path(path).with_suffix(".safetensors")
    card = read_card(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file, though its card is there; export the backbone again")
    if sha256(path) != card.sha256:
        raise UserError(f"{path}: its SHA-256 is not the one in {path.with_suffix('.json').name}; export it again")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from error


def load_backbone(path: str | Path) -> tuple[nn.Module, BackboneCard]:
    """Load an exported backbone as a classifier in eval mode, on the CPU, and its card.

    Raises:
        UserError: A file is missing or damaged, or the weights do not fit the card's architecture exactly.
    """
    card = read_card(path)
    size = {"img_size": card.input_size} if takes_image_size(card.arch) else {}
    model = build_backbone(card.arch, len(card.classes), **size)
    try:
        model.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise UserError(f"{path}: the weights are not those of {card.arch}: {' '.join(str(error).split())}") from error
    return model.eval(), card
