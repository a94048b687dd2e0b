"""The files of a conversion: the weights in one of three formats, their card, and a config of the framework."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file

from pretrain.backbones import build_backbone, export_backbone, takes_image_size
from pretrain.console import UserError
from pretrain.files import atomic_path, write_json, write_text
from transfer.architectures import COUNTER, SWIN
from transfer.cards import architecture_values, card_values, converted_card, mmdet_values, read_converted_card
from transfer.convert import Converted, Report
from transfer.reading import read_file

FORMATS = (".pth", ".safetensors", ".pkl")
_BASES = {  # of MMDetection's own configs; of Swin transformers it has none of a Faster R-CNN
    "c4": "mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py",
    "fpn": "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "swin": "mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_1x_coco.py",
}
_DETECTORS = {"c4": "res5 in the RoI head (C4)", "fpn": "all stages under backbone.bottom_up (FPN)"}
TOOLS = {"detectron2": "tools/convert_to_d2.py", "mmdet": "tools/convert_to_mmdet.py"}


def out_file(out_path: str | Path, target: str) -> Path:
    """Return the path of the converted weights: .pth is added where it has no ending.

    Raises:
        UserError: Its ending is none of the formats, or the config that goes beside it would replace another file.
    """
    path = Path(out_path)
    path = path if path.suffix else path.with_suffix(".pth")
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: the converted file ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    config = config_file(path, target)
    if config and config.exists() and not config.read_text(errors="replace").startswith(_first_words(path)):
        raise UserError(
            f"{config}: the converter would replace it, and did not write it; choose another name for {path}"
        )
    return path


def config_file(path: Path, target: str) -> Path | None:
    """Return where the config for the framework's own tools goes; None where they cannot read the weights."""
    if target == "detectron2":
        return path.with_suffix(".yaml")
    return path.with_suffix(".py") if target == "mmdet" and path.suffix == ".pth" else None


def _first_words(path: Path) -> str:
    return f"# What {path.name} needs in "


def save(converted: Converted, out_path: str | Path, verification: dict[str, Any] | None = None) -> Path:
    """Write the weights, OUT.json (card, target, head, source), and the detector's OUT.yaml or OUT.py; each atomically.

    Args:
        converted: What `convert` returned.
        out_path: Its ending is the format: .pth, a plain dictionary of tensors, also where there is none; .safetensors;
            .pkl, a pickle of NumPy arrays as Detectron2's model zoo has them.
        verification: A `Verification` as a dictionary, where the parity has been shown.

    Returns:
        The path of the weights.
    """
    path = out_file(out_path, converted.target)
    config = config_file(path, converted.target)
    with atomic_path(path) as temporary:
        if path.suffix == ".pth":
            torch.save(converted.state_dict, temporary)
        elif path.suffix == ".safetensors":
            save_file(converted.state_dict, temporary, metadata={"format": "pt"})
        else:
            temporary.write_bytes(_pickled(converted))
    if config:
        write = detectron2_yaml if converted.target == "detectron2" else mmdet_python
        write_text(config, write(converted, path))
    values = converted_card(
        converted.card,
        path,
        target=converted.target,
        head=converted.head,
        source=converted.source,
        verification=verification,
    )
    write_json(path.with_suffix(".json"), values)
    return path


def save_export(converted: Converted, out_path: str | Path) -> Path:
    """Write a backbone that was converted to timm as an exported one: OUT.safetensors and its card, OUT.json.

    It is what pretraining exports, so that a fine-tuned backbone can be evaluated, localised with, and carried on.

    Raises:
        UserError: The path does not end in .safetensors.
    """
    path, card = Path(out_path), converted.card
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: an exported backbone ends in .safetensors")
    size = {"img_size": card.input_size} if takes_image_size(card.arch) else {}
    model = build_backbone(card.arch, len(card.classes), **size)
    counters = {name: tensor for name, tensor in model.state_dict().items() if name.endswith(COUNTER)}
    model.load_state_dict({**counters, **converted.state_dict})
    export_backbone(model, card, path)
    return path


def _pickled(converted: Converted) -> bytes:
    """Return the pickle that Detectron2's checkpointer takes as it is.

    It tells it from a Caffe2 file by "model" and "__author__"; without "matching_heuristics" it guesses no names.
    """
    arrays = {name: tensor.numpy() for name, tensor in converted.state_dict.items()}
    return pickle.dumps({"model": arrays, "__author__": "mixup-transfer"}, protocol=4)


def read_converted(path: str | Path, target: str) -> Converted:
    """Read the weights and OUT.json again, checked against the digest and against the framework that wants them.

    Raises:
        UserError: A file is missing or damaged, or was converted for another framework.
    """
    path, tool = Path(path), TOOLS.get(target, "the converter")
    if path.suffix not in FORMATS or not path.is_file():
        raise UserError(f"{path}: no such converted file; make it with {tool} CHECKPOINT OUT.pth")
    if not path.with_suffix(".json").is_file():
        raise UserError(f"{path}: its card {path.with_suffix('.json').name} is not beside it; convert it with {tool}")
    card, entries = read_converted_card(path)
    if entries["target"] != target:
        raise UserError(f"{path}: converted for {entries['target']}; convert {entries['source']} with {tool}")
    content = read_file(path)
    weights = content["model"] if path.suffix == ".pkl" else content
    report = Report({}, (), (), {}, "converted", True)
    return Converted(weights, card, report, target, entries["head"], entries["source"])


def detectron2_yaml(converted: Converted, path: Path) -> str:
    """Return a YAML with all that the weights decide in a Detectron2 config: a `_BASE_` for anybody's own config."""
    nested: dict[str, Any] = {}
    for key, value in {**card_values(converted.card), **architecture_values(converted.card.arch)}.items():
        node = nested
        for part in key.split(".")[:-1]:
            node = node.setdefault(part, {})
        node[key.split(".")[-1]] = value
    return (
        f"{_first_words(path)}a Detectron2 config. tools/finetune_d2.py takes it from the card. For others\n"
        f'# let the config name this file as its _BASE_, and MODEL.WEIGHTS "{path.name}"; the detector has to have\n'
        f"# {_DETECTORS[converted.head]}.\n{yaml.safe_dump(nested, sort_keys=False, default_flow_style=None)}"
    )


def mmdet_python(converted: Converted, path: Path) -> str:
    """Return a whole config for MMDetection's own tools: one of its own, with all that the weights decide on top.

    The file names the weights where mmengine looks for them: in the `init_cfg` of each part that they fill. mmengine
    puts the config's folder in the place of `{{ fileDirname }}`.
    """
    from mmengine.config import Config  # late: it takes a second

    card, head = converted.card, converted.head
    model = mmdet_values(card, head)
    filled = {"backbone.": model["backbone"]}
    if head == "c4":
        filled["roi_head.shared_head."] = model["roi_head"]["shared_head"]
    for prefix, part in filled.items():
        checkpoint = f"{{{{ fileDirname }}}}/{path.name}"
        part["init_cfg"] = {"type": "Pretrained", "checkpoint": checkpoint, "prefix": prefix}
    kind = "Mask" if card.arch == SWIN else "Faster"
    lines = [
        f"{_first_words(path)}MMDetection, over its own {kind} R-CNN: a whole config for its own tools/train.py.",
        "# tools/finetune_mmdet.py takes it from the card. A config of yours may name this file as its _base_. To keep",
        "# your data and schedule, copy `model` below into your config, and the path of the weights with it.",
        f'_base_ = "{_BASES["swin" if card.arch == SWIN else head]}"',
    ]
    if head == "c4":  # the norm behind the last stage, and the groups of a ResNeXt
        lines.append('custom_imports = dict(imports=["transfer.mmdet.heads"])')
    return "\n".join([*lines, Config({"model": model}).pretty_text])
