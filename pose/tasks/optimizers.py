"""Optimizers and learning-rate schedules that `tasks.*` in params.yaml can name."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn

from pose.params import InitParams, OptimizerParams, ScheduleParams

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "rmsprop": torch.optim.RMSprop,  # alpha 0.99, as published
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def parameter_groups(net: nn.Module, init: InitParams | None, taken: Collection[str]) -> list[dict[str, Any]]:
    """The parameters of a network as groups of an optimizer: those taken from given weights come last.

    taken: their names. lr_scale: a factor of the group's rate. start: share of the steps before the group
    learns at all.
    """
    named = dict(net.named_parameters())
    new = {"params": [named[name] for name in named if name not in taken], "lr_scale": 1.0, "start": 0.0}
    if init is None:
        return [new]
    old = {"params": [named[name] for name in named if name in taken]}
    return [new, old | {"lr_scale": init.lr_scale, "start": init.frozen}]


def build_optimizer(
    parameters: list[nn.Parameter] | list[dict[str, Any]], params: OptimizerParams, lr: float
) -> torch.optim.Optimizer:
    """The optimizer that the parameters name."""
    # foreach: the same arithmetic with all tensors in a call; not the default on a CPU, where it saves some
    # hundredths of a small network's step.
    return OPTIMIZERS[params.name](parameters, lr=lr, weight_decay=params.weight_decay, foreach=True)


def schedule_factor(params: ScheduleParams, done: int, steps: int, *, start: float = 0.0) -> float:
    """What the peak rate is multiplied by after `done` of `steps` steps.

    Linear warm-up over the first `warmup` of the run; then constant, half a cosine down to zero, or times
    `gamma` at each milestone. warmup, milestones: shares of the run. start: share of the run at which the
    warm-up begins.
    """
    share = done / steps
    begun = max(0.0, done + 1 - start * steps)  # steps, of the warm-up too
    warm = min(1.0, begun / (params.warmup * steps)) if params.warmup else 1.0
    if params.name == "cosine":
        rest = (share - params.warmup) / (1 - params.warmup) if params.warmup < 1 else 0.0
        return warm * 0.5 * (1 + math.cos(math.pi * min(max(rest, 0.0), 1.0)))
    if params.name == "steps":
        return warm * params.gamma ** sum(share >= milestone for milestone in params.milestones)
    return warm
