"""Optimizer and learning-rate schedule, from timm."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch.optim import Optimizer

from pretrain.console import UserError
from pretrain.training.methods import Method
from pretrain.training.settings import OptimSettings


def build_optimizer(method: Method, settings: OptimSettings, batch_size: int | None = None) -> Optimizer:
    """Return the optimizer over the parameters that the method trains.

    Args:
        method: Names the parameters.
        settings: Of the run.
        batch_size: Images a step; with `settings.lr_batch_size` every learning rate is scaled linearly to it.

    Raises:
        UserError: timm knows no such optimizer, or it refuses the settings.
    """
    factor = lr_factor(settings, batch_size)
    groups = [part for group in method.parameter_groups() for part in _split(group, method, settings)]
    for group in groups:
        for key, rate in (("lr", settings.lr), ("min_lr", settings.min_lr)):
            group[key] = group.get(key, rate) * factor
    # timm's LAMB clips the gradient to norm 1 by itself; here clipping is the setting's, for every optimizer alike
    options: dict[str, Any] = {"max_grad_norm": None} if settings.name.startswith("lamb") else {}
    try:
        return create_optimizer_v2(
            groups,
            opt=settings.name,
            lr=settings.lr * factor,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            filter_bias_and_bn=False,
            **options,
        )
    except (ValueError, AssertionError) as error:
        raise UserError(f"optim.name '{settings.name}': timm builds no such optimizer ({error})") from error


def lr_factor(settings: OptimSettings, batch_size: int | None) -> float:
    """Return what the learning rates are multiplied by: the batch over the one that they are stated for."""
    return batch_size / settings.lr_batch_size if batch_size and settings.lr_batch_size else 1.0


def _split(group: dict[str, Any], method: Method, settings: OptimSettings) -> list[dict[str, Any]]:
    """Part a group into what is decayed and what is not, by timm's rule: not vectors, nor what a network names."""
    if settings.decay_norm_and_bias:
        return [{**group}]
    named: set[int] = set()
    for module in method.modules():
        if callable(names_of := getattr(module, "no_weight_decay", None)):
            names = names_of()  # may hold some that this form of the network lacks
            named |= {id(parameter) for name, parameter in module.named_parameters() if name in names}
    plain = [p for p in group["params"] if p.ndim <= 1 or id(p) in named]
    left_out = set(map(id, plain))
    decayed = [p for p in group["params"] if id(p) not in left_out]
    parts = [{**group, "params": decayed}, {**group, "params": plain, "weight_decay": 0.0}]
    return [part for part in parts if part["params"]]


class Schedule:
    """A cosine over all steps of the run for each parameter group, from its own peak to its own end.

    Args:
        optimizer: Of `build_optimizer`; its groups hold their peaks as "lr" and their ends as "min_lr".
        settings: Of the run.
        steps_per_epoch: Optimizer steps an epoch.
    """

    def __init__(self, optimizer: Optimizer, settings: OptimSettings, steps_per_epoch: int) -> None:
        self.total_steps = settings.epochs * steps_per_epoch
        one_group: list[Any] = [SimpleNamespace(param_groups=[group]) for group in optimizer.param_groups]
        self.schedules = [
            CosineLRScheduler(
                holder,
                t_initial=self.total_steps,
                lr_min=holder.param_groups[0]["min_lr"],
                warmup_t=round(settings.warmup_epochs * steps_per_epoch),
                warmup_lr_init=0.0,
                t_in_epochs=False,
            )
            for holder in one_group
        ]

    def set_rates(self, step: int) -> None:
        """Set every group's learning rate for step `step`, from 0."""
        for schedule in self.schedules:
            schedule.step_update(step)
