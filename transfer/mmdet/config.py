"""A fine-tuning configuration: read, overridden, and compared with the weights' card and the protocol.

MMDetection ignores what it does not know: a misspelt key, or a data_preprocessor at the top level beside one inside the
model, trains a detector on wrongly prepared images without a word. Here each of these is refused.
"""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from pretrain.backbones import BackboneCard
from pretrain.console import UserError, did_you_mean
from transfer.finetuning import check as checking
from transfer.finetuning.job import Reading
from transfer.mmdet import check
from transfer.mmdet.parts import parameters_of

RUNNER_KEYS = sorted({*inspect.signature(Runner).parameters, "data_name"} - {"cfg"})


def read_config(
    path: str | Path,
    card: BackboneCard | None = None,
    options: list[str] | None = None,
    head: str = "",
    source: str = "",
) -> Reading:
    """Read a configuration file, apply `--cfg-options`, and compare it with the card and the protocol.

    Args:
        path: A Python file in mmengine's form, possibly with `_base_`.
        card: Of the weights that will be loaded, None from scratch. Its mean and std replace ImageNet's.
        options: ["optim_wrapper.optimizer.lr=0.01", ...]; a value is read as Python where it can be.
        head: "c4" or "fpn", which the weights were converted for; empty where it is not known.
        source: The checkpoint that they were converted from, for the remedy.

    Raises:
        UserError: The file is missing or wrong, a key is misspelt, or the data_preprocessor stands where MMDetection
            would ignore it.
    """
    cfg, given = _read(path, options or [])
    check.adopt_preprocessing(cfg.model, card)
    found = check.findings(cfg, card, given, head, f"python tools/convert_to_mmdet.py {source} OUT.pth")
    return Reading(cfg, given, found, checking.problems(found, given, path))


def load_config(path: str | Path, card: BackboneCard | None = None, options: list[str] | None = None) -> Config:
    """Return the configuration alone.

    Raises:
        UserError: As `read_config`, or it cannot be trained; all reasons are named.
    """
    reading = read_config(path, card, options)
    checking.refuse(reading.problems)
    return reading.cfg


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


def _read(path: str | Path, options: list[str]) -> tuple[Config, dict[str, str]]:
    if not Path(path).is_file():
        raise UserError(f"{path}: no such configuration; those at hand lie in configs/mmdet and configs/quickstart")
    try:
        cfg = Config.fromfile(path)
    except (SyntaxError, NameError, AttributeError, FileNotFoundError, ImportError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a configuration ({type(error).__name__}: {error})") from error
    # mmengine writes the configuration into every checkpoint; formatting it by yapf would take a second each time.
    cfg = Config(cfg._cfg_dict, cfg.text, cfg.filename, cfg.env_variables, format_python_code=False)
    _check_top_level(cfg, str(path))
    values = dict(_split(option) for option in options)
    for key, value in values.items():
        _check_key(cfg, key, value)
    cfg.merge_from_dict(values)
    _check_top_level(cfg, str(path))
    return cfg, dict.fromkeys(values, checking.COMMAND_LINE)


def _split(option: str) -> tuple[str, Any]:
    key, equals, text = option.partition("=")
    if not equals or not key:
        raise UserError(f"--cfg-options {option}: write key=value, e.g. optim_wrapper.optimizer.lr=0.01")
    return key, DictAction._parse_iterable(text)


def _check_top_level(cfg: Config, path: str) -> None:
    """Refuse what the Runner would pass over: data_preprocessor outside the model, near misses of its own names."""
    if "data_preprocessor" in cfg:
        raise UserError(
            f"{path}: data_preprocessor at the top level, where the Runner passes over it if the model has one; "
            "put it inside model"
        )
    for key in cfg:
        if key not in RUNNER_KEYS and (close := get_close_matches(key, RUNNER_KEYS, n=1, cutoff=0.85)):
            raise UserError(f"{path}: unknown entry '{key}'; did you mean '{close[0]}'?")
    needed = ("model", "train_dataloader", "val_dataloader", "val_evaluator", "train_cfg", "optim_wrapper", "data_root")
    for key in needed:
        if not cfg.get(key):
            raise UserError(f"{path}: no entry '{key}'; start from a file of configs/mmdet")


def _check_key(cfg: Config, key: str, value: Any) -> None:
    """Refuse a dotted key that names nothing in the configuration and nothing that the built object takes.

    A command line cannot give a group of keys: mmengine reads braces as a list.
    """
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
    if isinstance(node, dict) and value is not None:
        raise UserError(f"--cfg-options {key}: it is a group of keys; set one of them, e.g. {key}.{next(iter(node))}")


def _known_keys(node: dict[str, Any], path: list[str]) -> list[str]:
    """Return the keys that a part of the configuration has or, if it says its type, that its constructor takes."""
    known = set(node)
    if not path:
        known = set(RUNNER_KEYS)
    elif path[-1].endswith("_dataloader"):
        known |= set(inspect.signature(DataLoader.__init__).parameters) - {"self"}
    if isinstance(node.get("type"), str):
        known |= set(parameters_of(node["type"]))
    return sorted(known)
