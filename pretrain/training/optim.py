"""Optimizer and learning-rate schedule, from timm."""

from __future__ import annotations

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


def build_schedule(optimizer: Optimizer, settings: OptimSettings, steps_per_epoch: int) -> CosineLRScheduler:
    """Return a cosine over all steps of the run, to be moved by `step_update(step)`."""
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    return CosineLRScheduler(
        optimizer,
        t_initial=settings.epochs * steps_per_epoch,
        lr_min=settings.min_lr,
        warmup_t=warmup,
        warmup_lr_init=0.0,
        t_in_epochs=False,
    )
