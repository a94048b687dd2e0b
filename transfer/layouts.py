"""Source layouts: whatever wrapped the backbone, bring its weights back to torchvision's names.

Known are the names of torchvision and timm, of OpenMMLab (mmpretrain, OpenMixup, MMDetection), of Microsoft's Swin and
of Detectron2, behind any prefix: `module.` (DDP), `backbone.` (OpenMMLab, solo-learn), `module.encoder_q.` (MoCo),
`backbone_q.` and `backbone_k.` (AutoMix in OpenMixup), `timm_model.`, `_feature_blocks.` (VISSL), and under any keys
such as `state_dict`, `model` or `classy_state_dict`, which count as part of the prefix.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from pretrain.backbones import BackboneCard
from pretrain.console import UserError, did_you_mean, first_few
from pretrain.files import sha256
from transfer.architectures import ARCHITECTURES
from transfer.cards import card_beside
from transfer.identify import Network, canonical, identify, widened
from transfer.names import LAST_STAGE, RES5
from transfer.reading import read_file

# The tensor by which a layout is known. timm's ResNets, and OpenMMLab's, have torchvision's names.
MARKERS = {
    "torchvision": r"layer1\.0\.conv1\.weight|features\.1\.0\.attn\.qkv\.weight",
    "detectron2": r"res2\.0\.conv1\.weight",
    "timm": r"layers\.0\.blocks\.0\.attn\.qkv\.weight",
    "mmdet": r"stages\.0\.blocks\.0\.attn\.w_msa\.qkv\.weight",
}
MARKER = re.compile(r"^(|.*\.)(?:" + "|".join(f"(?P<{name}>{words})" for name, words in MARKERS.items()) + ")$")

# Whose C4 detector it is, by the names of its backbone; MMDetection's ResNets have torchvision's.
C4_DETECTORS = {"detectron2": "detectron2", "torchvision": "mmdet"}

# Words in a prefix that mark a moving average, and the branch that is usually transferred where the file also holds
# the network that it follows: AutoMix, DINO, timm and OpenMMLab evaluate the average, MoCo and solo-learn do not.
TEACHERS = {
    "backbone_k": "teacher",
    "teacher": "teacher",
    "ema": "teacher",
    "model_ema": "teacher",
    "state_dict_ema": "teacher",
    "ema_state_dict": "teacher",
    "encoder_k": "student",
    "momentum_encoder": "student",
    "momentum_backbone": "student",
}
STUDENTS = {"backbone_q", "encoder_q", "student", "online_encoder", "base_encoder"}


@dataclass(frozen=True)
class Source:
    """A backbone under torchvision's names.

    Attributes:
        weights: {torchvision name: tensor}, float32, all of the architecture's and the classifier's, if there is one.
        card: Architecture and preprocessing. For a foreign file, the torchvision defaults.
        names: {torchvision name: the name in the file}.
        network: The same tensors under the names that their framework gives them.
        left_over: Names in the file of what the architecture has no use for: projectors, a detector's own norms.
        other_parts: {prefix: number of tensors} of what lies in the file beside the chosen network.
        preprocessing_known: False where the card's preprocessing is assumed.
        notes: What was done to the numbers, e.g. that float16 was widened.
    """

    weights: dict[str, Tensor]
    card: BackboneCard
    names: dict[str, str]
    network: Network
    left_over: tuple[str, ...] = ()
    other_parts: dict[str, int] = field(default_factory=dict)
    preprocessing_known: bool = True
    notes: tuple[str, ...] = ()

    def own_weights(self) -> dict[str, Tensor]:
        """Return the network's tensors under the names that their framework gives them, without what is left over."""
        own_names, left_over = self.network.own_names, set(self.left_over)
        return {name: value for name, value in self.network.weights.items() if own_names[name] not in left_over}

    @property
    def origin(self) -> str:
        """Where it came from, for messages: a path."""
        return self.network.origin

    @property
    def layout(self) -> str:
        """What was found, e.g. "torchvision's names behind state_dict.backbone_k."."""
        behind = f" behind {self.network.prefix}" if self.network.prefix else ""
        return f"{self.network.framework}'s names{behind}"


def read_source(
    source: str | Path | Mapping[str, Any], arch: str | None = None, branch: str | None = None, trust: bool = False
) -> Source:
    """Read a checkpoint and bring it to torchvision's names.

    Args:
        source: A checkpoint, as for `transfer.reading.read_file`, or what such a file holds.
        arch: Architecture, e.g. "resnet50"; told from the tensors' shapes where it is None.
        branch: "teacher" or "student", for a checkpoint that holds both.
        trust: Whether code that the file carries may run.

    Raises:
        UserError: The file cannot be read safely, or holds no network that a detector's backbone reproduces.
    """
    if arch is not None and arch not in ARCHITECTURES:
        raise UserError(f"--arch {arch}: not an architecture that is converted{did_you_mean(arch, [*ARCHITECTURES])}")
    if branch not in (None, "teacher", "student"):
        raise UserError(f"--branch {branch}: it is teacher or student")
    card = None
    if isinstance(source, Mapping):
        origin, content = "state dict", source
    else:
        origin, content = str(source), read_file(source, trust)
        if card := card_beside(source):
            _check_card(card, origin, arch, branch)
    tensors = dict(_flatten(content))
    if not tensors or {"method", "step", "settings"} <= set(content):
        keys = first_few([str(key) for key in content]) or "nothing"
        remedy = "convert what the run exported (export/*.safetensors)" if tensors else "save model.state_dict()"
        raise UserError(f"{origin}: no weights of a network alone; it holds {keys}; {remedy}")
    network, notes = widened(_choose(tensors, origin, None if card else branch))
    found = identify(network, arch or (card.arch if card else None))
    weights, names, left_over = canonical(network, found)
    taken = set(network.own_names.values())
    known = card is not None
    if card is None:
        digest = "" if isinstance(source, Mapping) else sha256(source)
        card = BackboneCard(arch=found, classes=(), branch=network.branch, sha256=digest)
    return Source(
        weights=weights,
        card=card,
        names={name: network.own_names[own] for name, own in names.items()},
        network=network,
        left_over=tuple(network.own_names[name] for name in left_over),
        other_parts=_other_parts([name for name in tensors if name not in taken], network.prefix),
        preprocessing_known=known,
        notes=notes,
    )


def _check_card(card: BackboneCard, origin: str, arch: str | None, branch: str | None) -> None:
    if card.stem != "imagenet":
        raise UserError(f"{origin}: its card says stem '{card.stem}'; detectors need the 7x7 ImageNet stem")
    if card.arch not in ARCHITECTURES:
        raise UserError(f"{origin}: its card says {card.arch}; what is converted: {', '.join(ARCHITECTURES)}")
    if arch and card.arch != arch:
        raise UserError(f"{origin}: its card says {card.arch}, --arch says {arch}; leave --arch out")
    if branch and card.branch in ("teacher", "student") and card.branch != branch:
        raise UserError(f"{origin}: its card says branch {card.branch}, --branch says {branch}; name the other file")


def _flatten(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield (dotted name, tensor) for the tensors in nested dictionaries."""
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")


def _choose(tensors: dict[str, Tensor], origin: str, branch: str | None) -> Network:
    """Return the network that is meant."""
    found = {match[1]: match.lastgroup or "" for name in tensors if (match := MARKER.match(name))}
    if not found:
        raise UserError(
            f"{origin}: no ResNet, ResNeXt or Swin transformer in it: no key ends in layer1.0.conv1.weight or another "
            f"name that is known (its keys: {first_few([*tensors])}); what is converted: {', '.join(ARCHITECTURES)}"
        )
    prefix = _choose_prefix(sorted(found), origin, branch)
    framework = found[prefix]
    own_names = {name.removeprefix(prefix): name for name in tensors if name.startswith(prefix)}
    if framework in C4_DETECTORS and prefix.endswith("backbone."):  # C4: the last stage is in the RoI head
        before, detector = prefix.removesuffix("backbone."), C4_DETECTORS[framework]
        in_head = [name for name in tensors if name.startswith(before + RES5[detector])]
        own_names |= {name.removeprefix(before + LAST_STAGE[detector]): name for name in in_head}
    if framework == "timm" and "layers.0.downsample.reduction.weight" in own_names:
        framework = "detectron2" if "norm3.weight" in own_names else "microsoft"
    weights = {name: tensors[own] for name, own in own_names.items()}
    followed = bool(_words(prefix) & STUDENTS) or any(_is_teacher(other) for other in found)
    told = "teacher" if _is_teacher(prefix) else "student" if followed else "model"
    return Network(origin, prefix, framework, told, weights, own_names)


def _choose_prefix(found: list[str], origin: str, branch: str | None) -> str:
    teachers = [prefix for prefix in found if _is_teacher(prefix)]
    students = [prefix for prefix in found if prefix not in teachers and (teachers or _words(prefix) & STUDENTS)]
    listed = ", ".join(prefix or "bare names" for prefix in found)
    if branch is None and len(found) > 1 and len(teachers) == 1:
        branch = TEACHERS[next(word for word in TEACHERS if word in _words(teachers[0]))]
    if branch is None:
        if len(found) > 1:
            raise UserError(f"{origin}: several networks in it ({listed}); choose with --branch teacher or student")
        return found[0]
    matching = teachers if branch == "teacher" else students
    if not matching:
        raise UserError(f"{origin}: no {branch} in it; it holds {listed}; leave --branch out")
    if len(matching) > 1:
        raise UserError(f"{origin}: several {branch}s in it ({listed}); save the state_dict of the one that is meant")
    return matching[0]


def _words(prefix: str) -> set[str]:
    return set(prefix.split("."))


def _is_teacher(prefix: str) -> bool:
    return bool(_words(prefix) & set(TEACHERS))


def _other_parts(names: list[str], prefix: str) -> dict[str, int]:
    """Count the names by the first word in which they differ from the prefix."""
    words = prefix.split(".")[:-1]
    parts = Counter[str]()
    for name in names:
        own = name.split(".")[:-1]
        same = next((i for i, (a, b) in enumerate(zip(own, words)) if a != b), min(len(own), len(words)))
        parts[".".join(own[: same + 1]) + "."] += 1
    return dict(parts)
