"""A fine-tuning configuration: read, overridden, checked, and bound to the weights' card.

MMDetection ignores what it does not know: a misspelt key, or a data_preprocessor at the top level instead of inside
the model, trains a detector on wrongly prepared images without a word. Here each of these is refused.
"""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmdet import registry
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from pretrain.backbones import BackboneCard
from pretrain.console import UserError, did_you_mean
from transfer.mmdet.features import resnet_depth

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RUNNER_KEYS = sorted({*inspect.signature(Runner).parameters, "data_name"} - {"cfg"})
VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def load_config(path: str | Path, options: list[str] | None = None) -> Config:
    """Read a configuration file and apply `--cfg-options`.

    Args:
        path: A Python file in mmengine's form, possibly with `_base_`.
        options: ["optim_wrapper.optimizer.lr=0.01", ...]; a value is read as Python where it can be.

    Raises:
        UserError: The file is missing or wrong, a key is misspelt, or the data_preprocessor stands where MMDetection
            would ignore it.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such configuration; those at hand lie in configs/mmdet and configs/quickstart")
    try:
        cfg = Config.fromfile(path)
    except (SyntaxError, NameError, AttributeError, FileNotFoundError, ImportError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a configuration ({type(error).__name__}: {error})") from error
    # mmengine writes the configuration into every checkpoint; formatting it by yapf would take a second each time.
    cfg = Config(cfg._cfg_dict, cfg.text, cfg.filename, cfg.env_variables, format_python_code=False)
    _check_top_level(cfg, str(path))
    values = dict(_split(option) for option in options or [])
    for key in values:
        _check_key(cfg, key)
    cfg.merge_from_dict(values)
    _check_top_level(cfg, str(path))
    return cfg


def set_data_root(cfg: Config, root: str | Path) -> None:
    """Point every data set and annotation file of the configuration at `root`, which stands for its `data_root`."""
    old = str(cfg.data_root)
    new = f"{str(root).rstrip('/')}/"

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            for key in value:
                value[key] = moved(value[key])
            return value
        if isinstance(value, (list, tuple)):
            return type(value)(moved(entry) for entry in value)
        return new + value.removeprefix(old) if isinstance(value, str) and value.startswith(old) else value

    moved(cfg._cfg_dict)


def apply_card(cfg: Config, card: BackboneCard, head: str) -> None:
    """Prepare images as the weights want them, and refuse a detector that the weights do not fit.

    The card's mean and std replace ImageNet's in `model.data_preprocessor`, in units of 0..255 and RGB.

    Args:
        cfg: The configuration; changed in place.
        card: Of the converted weights.
        head: For which detector they were converted: "c4" or "fpn".

    Raises:
        UserError: Depth, head, style, channel order or normalisation of the configuration contradict the card.
    """
    model = cfg.model
    if config_head(cfg) != head:
        raise UserError(
            f"the weights were converted for --head {head}, the configuration builds a {config_head(cfg)} detector; "
            f"convert again with --head {config_head(cfg)}"
        )
    parts = {"model.backbone": model.backbone}
    if head == "c4":
        parts["model.roi_head.shared_head"] = model.roi_head.shared_head
    for where, part in parts.items():
        if part.depth != resnet_depth(card.arch):
            raise UserError(f"{where}.depth is {part.depth}, the weights are of {card.arch}")
        if part.get("style", "pytorch") != card.stride_style:
            raise UserError(
                f"{where}.style is '{part.style}', the weights need '{card.stride_style}' (where the stride sits)"
            )
    if card.stem != "imagenet" or card.channel_order != "RGB":
        raise UserError(
            f"weights with stem '{card.stem}' and channels {card.channel_order}; MMDetection needs ImageNet's, RGB"
        )
    _apply_preprocessing(model.data_preprocessor, card)


def config_head(cfg: Config) -> str:
    """Return "c4" if the last stage sits in the RoI head, else "fpn"."""
    return "c4" if cfg.model.roi_head.get("shared_head") else "fpn"


def _apply_preprocessing(preprocessor: ConfigDict, card: BackboneCard) -> None:
    where = "model.data_preprocessor"
    if preprocessor.get("bgr_to_rgb") is not True:
        raise UserError(f"{where}.bgr_to_rgb must be True: images are read as BGR, and the weights want RGB")
    for name, usual, wanted in (("mean", IMAGENET_MEAN, card.mean), ("std", IMAGENET_STD, card.std)):
        given = [float(value) for value in preprocessor.get(name) or ()]
        ours = [round(255 * value, 6) for value in wanted]
        allowed = (ours, [round(255 * value, 6) for value in usual])
        if not any(len(given) == 3 and max(abs(a - b) for a, b in zip(given, values)) < 0.01 for values in allowed):
            raise UserError(f"{where}.{name} is {given}, the weights' card says {ours}; leave it to the card")
        preprocessor[name] = ours


def _split(option: str) -> tuple[str, Any]:
    key, equals, text = option.partition("=")
    if not equals or not key:
        raise UserError(f"--cfg-options {option}: write key=value, e.g. optim_wrapper.optimizer.lr=0.01")
    return key, DictAction._parse_iterable(text)


def _check_top_level(cfg: Config, path: str) -> None:
    """Refuse what the Runner would ignore: data_preprocessor outside the model, and near misses of its own names."""
    if "data_preprocessor" in cfg:
        raise UserError(f"{path}: data_preprocessor at the top level is ignored by the Runner; put it inside model")
    for key in cfg:
        if key not in RUNNER_KEYS and (close := get_close_matches(key, RUNNER_KEYS, n=1, cutoff=0.85)):
            raise UserError(f"{path}: unknown entry '{key}'; did you mean '{close[0]}'?")
    for needed in ("model", "train_dataloader", "val_dataloader", "val_evaluator", "train_cfg", "data_root"):
        if needed not in cfg:
            raise UserError(f"{path}: no entry '{needed}'; start from a file of configs/mmdet")


def _check_key(cfg: Config, key: str) -> None:
    """Refuse a dotted key that names nothing in the configuration and nothing that the built object takes."""
    first = key.split(".")[0]
    if first in cfg and first not in RUNNER_KEYS:
        raise UserError(
            f"--cfg-options {key}: '{first}' is a name inside the file that is used up by the time options apply; set "
            "the place where it is used, e.g. train_dataloader.dataset.pipeline (--data-root for the data)"
        )
    node: Any = cfg._cfg_dict
    done: list[str] = []
    for part in key.split("."):
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                raise UserError(f"--cfg-options {key}: {'.'.join(done)} is a list of {len(node)}; use its index")
            node = node[int(part)]
        elif isinstance(node, dict):
            known = _known_keys(node, done)
            if part not in known:
                raise UserError(f"--cfg-options {key}: unknown key '{part}'{did_you_mean(part, known)}")
            node = node.get(part)
        else:
            raise UserError(f"--cfg-options {key}: {'.'.join(done)} is no group of keys")
        done.append(part)


def _known_keys(node: dict[str, Any], path: list[str]) -> list[str]:
    """Return the keys that a part of the configuration has or, if it says its type, that its constructor takes."""
    known = set(node)
    if not path:
        known = set(RUNNER_KEYS)
    elif path[-1].endswith("_dataloader"):
        known |= set(inspect.signature(DataLoader.__init__).parameters) - {"self"}
    if isinstance(node.get("type"), str):
        built = _find_class(node["type"])
        for base in inspect.getmro(built) if inspect.isclass(built) else ():
            if base.__module__ != "builtins":
                parameters = inspect.signature(base).parameters.values()
                known |= {entry.name for entry in parameters if entry.kind not in VARIADIC}
        known.discard("self")
    return sorted(known)


def _find_class(name: str) -> Any:
    """Return the class that any of MMDetection's registries knows by this name, or None."""
    candidates = [value for value in vars(registry).values() if isinstance(value, Registry)]
    return next((found for entry in candidates if (found := entry.get(name)) is not None), None)
