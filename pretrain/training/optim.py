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


def build_optimizer(method: Method, settings: OptimSettings) -> Optimizer:
    """Return the optimizer over the parameters that the method trains."""
    try:
        return create_optimizer_v2(
            method.parameter_groups(),
            opt=settings.name,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            filter_bias_and_bn=False,
        )
    except (ValueError, AssertionError) as error:
        raise UserError(f"optim.name '{settings.name}': timm builds no such optimizer ({error})") from error


class Schedule:
    """A cosine over all steps of the run for each parameter group, from its own peak to its own end.

    Args:
        optimizer: Its groups hold their peaks as "lr"; "min_lr" is a group's own end.
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
                lr_min=holder.param_groups[0].get("min_lr", settings.min_lr),
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
