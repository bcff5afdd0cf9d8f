"""Optimizers and learning-rate schedules that `tasks.*` in params.yaml can name."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from itertools import chain
from typing import Any

import torch
from torch import nn

from pose.models.blocks import PoseNetwork
from pose.params import InitParams, OptimizerParams, ScheduleParams
from pose.tasks.muon import Muon, adam_kernel

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "rmsprop": torch.optim.RMSprop,  # alpha 0.99, as published
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "muon": Muon,
}


def parameter_groups(
    net: PoseNetwork, optimizer: OptimizerParams, init: InitParams | None, taken: Collection[str]
) -> list[dict[str, Any]]:
    """The parameters of a network as groups of an optimizer.

    taken: the names of those from given weights, which come last. lr_scale: a factor of the group's rate.
    start: share of the steps before the group learns at all. matrices: with Muon, whether it is what trains
    the group.
    """
    named = dict(net.named_parameters())
    new = {"params": [named[name] for name in named if name not in taken], "lr_scale": 1.0, "start": 0.0}
    groups = [new]
    if init is not None:
        old = {"params": [named[name] for name in named if name in taken]}
        groups.append(old | {"lr_scale": init.lr_scale, "start": init.frozen})
    if optimizer.name != "muon":
        return groups
    matrices = {id(named[name]) for name in named if _is_matrix(net, name)}
    return [part for group in groups for part in _split(group, matrices, optimizer.rest_lr)]


def _is_matrix(net: PoseNetwork, name: str) -> bool:
    """Whether Muon trains a parameter: weights between features, so neither colours nor joints nor biases."""
    weight = net.get_parameter(name)
    return weight.ndim == 4 and weight.shape[1] > 3 and name not in net.output_dims()


def _split(group: dict[str, Any], matrices: Collection[int], rest_lr: float) -> list[dict[str, Any]]:
    """A group as two: what Muon trains, given by the weights' ids, and what AdamW does."""
    own = [weight for weight in group["params"] if id(weight) in matrices]
    rest = [weight for weight in group["params"] if id(weight) not in matrices]
    return [
        group | {"params": own, "matrices": True},
        group | {"params": rest, "matrices": False, "lr_scale": group["lr_scale"] * rest_lr},
    ]


def build_optimizer(
    parameters: list[nn.Parameter] | list[dict[str, Any]], params: OptimizerParams, lr: float
) -> torch.optim.Optimizer:
    """The optimizer that the parameters name."""
    settings = params.model_dump(exclude={"name", "rest_lr"})
    if params.name == "rmsprop":
        settings["foreach"] = True
    elif params.name != "muon":
        groups = [part["params"] if isinstance(part, dict) else [part] for part in parameters]
        settings |= adam_kernel(next(chain.from_iterable(groups)))
    return OPTIMIZERS[params.name](parameters, lr=lr, **settings)


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
