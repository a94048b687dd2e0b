"""Settings of a pretraining run: a Python file of plain values, then frozen dataclasses that refuse unknown keys."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from mmengine.config import Config
from mmengine.config import ConfigDict as FileDict
from pydantic import Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from pretrain.automix import AutoMixSettings, LossSettings
from pretrain.console import UserError, did_you_mean
from pretrain.data.transforms import TransformSettings
from pretrain.training.method_settings import METHODS, STRICT, MethodSettings


@dataclass(frozen=True, config=STRICT)
class BackboneSettings:
    """The network.

    Attributes:
        name: timm's, or one of pretrain.backbones.cifar_resnet.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        drop_rate: Dropout before the head.
        pretrained: Where its weights start, but for the head's: see `pretrain.backbones.start_from`. None: random.
    """

    name: str = "resnet50"
    drop_path_rate: float = 0.0
    drop_rate: float = 0.0
    pretrained: str | None = None


@dataclass(frozen=True, config=STRICT)
class DataSettings:
    """The images.

    Attributes:
        root: Folder with train/<class>/ and val/<class>/.
        prepare: The command that makes it, for the message when it is missing.
        batch_size: Images a step, over all processes.
        workers: Loader processes for each training process.
        repeated_augmentation: How often an image comes in a row, each time augmented anew; an epoch keeps its length
            and sees so many fewer images. 1: once.
        transform: See `TransformSettings`.
        soft_labelled: A set of images with soft labels that joins the training images: see
            `pretrain.data.soft_labels`. None: there is none.
    """

    root: str
    prepare: str = "see docs/pretraining.md"
    batch_size: int = 256
    workers: int = 8
    repeated_augmentation: Annotated[int, Field(ge=1)] = 1
    transform: TransformSettings = TransformSettings()
    soft_labelled: str | None = None


@dataclass(frozen=True, config=STRICT)
class OptimSettings:
    """Optimizer and schedule.

    Attributes:
        name: timm's name; "momentum" is SGD with plain momentum, "sgd" with Nesterov's.
        lr: Peak learning rate, at `lr_batch_size` images a step where that is given.
        min_lr: Learning rate at the end of the cosine.
        lr_batch_size: Images a step that the learning rates are stated for. With another `data.batch_size` all of
            them, the Mix Block's too, are scaled linearly, and the run says so. None: they hold for any batch.
        momentum: Of SGD.
        weight_decay: On every parameter, unless `decay_norm_and_bias` is False.
        decay_norm_and_bias: Whether weight decay includes biases, norms, and what a network asks to leave out, such as
            position embeddings. PyTorch's procedure decays them, DeiT's and RSB's do not.
        clip_norm: Largest norm of the gradient of a step; None: not clipped.
        warmup_epochs: Linear warm-up from zero.
        epochs: Length of the run and horizon of every schedule.
        accumulate: Parts a batch is made in, one after the other, to save memory; each part mixes for itself.
        ema_decay: Decay, a step, of an average of the weights, which is then the result; None: none is kept. A method
            with a momentum encoder has one already and keeps no second.
    """

    name: str = "momentum"
    lr: float = 0.1
    min_lr: float = 0.0
    lr_batch_size: int | None = None
    momentum: float = 0.9
    weight_decay: float = 1e-4
    decay_norm_and_bias: bool = True
    clip_norm: float | None = None
    warmup_epochs: float = 0.0
    epochs: int = 100
    accumulate: int = 1
    ema_decay: float | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> OptimSettings:
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay:g}; it has to be between 0 and 1, such as 0.9999")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm is {self.clip_norm:g}; it has to be positive: leave it out for no clipping")
        return self


@dataclass(frozen=True, config=STRICT)
class RunSettings:
    """How a run is carried out.

    Attributes:
        seed: Decides initial weights, order, augmentation and mixing.
        precision: Fabric's name, e.g. "32-true", "bf16-mixed".
        channels_last: Memory layout of the images and of the convolutions' weights.
        compile: Whether torch.compile translates the networks; the first steps then take minutes.
        sharding: "fsdp" keeps parameters, gradients and optimizer state in shards, one a process, to save memory
            (FSDP2, see docs/scaling.md); "none" keeps them whole on each.
        log_every: Steps between lines of the log; only then are losses read from the device.
        checkpoint_every: Epochs between training states.
        checkpoint_steps: Steps between training states within an epoch; None: none.
        evaluate_every: Epochs between evaluations; the last epoch is always evaluated.
        inspect_every: Epochs between looks at the mixing: the accuracy on mixed samples (Fig. 4) and, for AutoMix, a
            picture of masks over lambda (Figs. 5, 7, 12, 13). The first and the last epoch are always looked at.
        wandb: Project at Weights & Biases that gets the log too (pip install wandb); None: none.
    """

    seed: int = 0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    channels_last: bool = False
    compile: bool = False
    sharding: Literal["none", "fsdp"] = "none"
    log_every: int = 50
    checkpoint_every: int = 1
    checkpoint_steps: int | None = None
    evaluate_every: int = 1
    inspect_every: int = 10
    wandb: str | None = None

    @model_validator(mode="after")
    def _fit_together(self) -> RunSettings:
        if self.sharding == "fsdp" and self.compile:
            raise ValueError("sharding 'fsdp' does not go with compile: set one of them back")
        if self.sharding == "fsdp" and self.precision == "16-mixed":
            raise ValueError("sharding 'fsdp' does not go with precision '16-mixed': take bf16-mixed or 32-true")
        return self


@dataclass(frozen=True, config=STRICT)
class Settings:
    """Everything a run depends on."""

    name: str
    data: DataSettings
    method: MethodSettings
    backbone: BackboneSettings = BackboneSettings()
    loss: LossSettings = LossSettings()
    optim: OptimSettings = OptimSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.data.soft_labelled and isinstance(self.method, AutoMixSettings):
            raise ValueError("data.soft_labelled has soft labels, which automix does not mix: take another method")
        if self.optim.ema_decay and isinstance(self.method, AutoMixSettings) and self.method.momentum is None:
            raise ValueError("optim.ema_decay: automix without its momentum encoder keeps no average: leave it out")
        return self


def load_settings(path: str | Path, changes: dict[str, Any] | None = None, method: str | None = None) -> Settings:
    """Read a config file and check every value.

    Args:
        path: A Python file of plain values; `_base_` inherits from others.
        changes: Values that replace the file's, by dotted key, e.g. {"optim.lr": 0.2}.
        method: Takes the place of the file's method, with the settings that the file's `methods` has for it, e.g.
            `methods = dict(cutmix=dict(alpha=0.2))`; what is not there has its default.

    Raises:
        UserError: The file does not exist or does not run, or values are unknown, missing or of the wrong type; all of
            them are named at once.
    """
    config = _read(Path(path))
    others: dict[str, Any] = config._cfg_dict.pop("methods", {})
    if unknown := sorted(set(others) - set(METHODS)):
        raise UserError(f"{path}: unknown method '{unknown[0]}' in methods{did_you_mean(unknown[0], list(METHODS))}")
    if method and config._cfg_dict.get("method", {}).get("name") != method:
        config._cfg_dict["method"] = FileDict({"name": method, **others.get(method, {})})
    try:
        config.merge_from_dict(changes or {})
    except Exception as error:  # mmengine raises what it meets
        raise UserError(f"--cfg-options: cannot be applied to {path} ({type(error).__name__}: {error})") from error
    values: dict[str, Any] = FileDict.to_dict(config._cfg_dict)
    return _check(values, str(path))


def methods_of(path: str | Path) -> list[str]:
    """Return the names of the methods that a config file has settings for, its own first."""
    config = _read(Path(path))
    own = config._cfg_dict.get("method", {}).get("name")
    return [own, *(name for name in config._cfg_dict.get("methods", {}) if name != own)]


def _read(path: Path) -> Config:
    if not path.is_file():
        raise UserError(f"{path}: no such config; those of this toolkit are under configs/")
    try:
        return Config.fromfile(str(path), lazy_import=False)
    except Exception as error:  # the file is code: anything may come out of it
        raise UserError(f"{path}: the config does not run ({type(error).__name__}: {error})") from error


def _check(values: dict[str, Any], where: str) -> Settings:
    try:
        return TypeAdapter(Settings).validate_python(values)
    except ValidationError as error:
        lines = [_describe(problem) for problem in error.errors()]
        raise UserError(f"{where}: " + "; ".join(lines)) from None


def _describe(problem: Any) -> str:
    """Turn one of pydantic's findings into "key: what is wrong", with a suggestion for a misspelt key."""
    path = [str(part) for part in problem["loc"]]
    if problem["type"] == "unexpected_keyword_argument":
        known = [entry.name for entry in fields(_dataclass_at(path[:-1]))]
        return f"unknown key '{'.'.join(_without_tags(path))}'{did_you_mean(path[-1], known)}"
    if problem["type"] == "union_tag_invalid":
        known = [name.strip("'") for name in problem["ctx"]["expected_tags"].split(", ")]
        return f"unknown method '{problem['ctx']['tag']}'{did_you_mean(problem['ctx']['tag'], known)}"
    where = ".".join(_without_tags(path)) or "the config"
    if problem["type"] == "value_error":  # one of our own checks: its sentence is whole
        return f"{where}: {problem['ctx']['error']}"
    if problem["type"] == "missing":
        return f"{where}: field required"
    return f"{where}: {problem['msg'].lower()} (is {problem['input']!r})"


def _without_tags(path: list[str]) -> list[str]:
    """Drop the method's name that pydantic puts behind "method"."""
    return [part for i, part in enumerate(path) if not (i == 1 and path[0] == "method" and part in METHODS)]


def _dataclass_at(path: list[str]) -> Any:
    found: Any = Settings
    for part in path:
        if part in METHODS and found is None:
            found = METHODS[part]
        else:
            hint = get_type_hints(found)[part]
            found = hint if is_dataclass(hint) else None
    return found
