"""A model = a problem and its network; a task = a model being trained. The one step that trains any of them is here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pose.multi import MultiPerson
from pose.params import AEParams, HourglassParams, MultiParams, OptimizerParams, Params, ScheduleParams, SingleParams
from pose.problem import Problem, Terms
from pose.single import SinglePerson


@dataclass(kw_only=True)
class Model:
    """A network and the problem that it answers.

    spec: what the network is built from. mean: colour (RGB, 0 to 1) that is taken off the images; nothing but for imported weights.
    run: the network as it is run (compiled, wrapped), if that is not `net` itself.
    """

    name: str
    problem: Problem
    spec: HourglassParams | AEParams
    net: nn.Module
    device: torch.device
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    autocast: bool = False
    run: Callable[[Tensor], Tensor] | None = None

    def __call__(self, image_B3HW: Tensor) -> Tensor:
        """The network's output in float32; it computes in bfloat16 where `train.precision` says so."""
        if any(self.mean):
            image_B3HW = image_B3HW - image_B3HW.new_tensor(self.mean)[:, None, None]
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            output = (self.net if self.run is None else self.run)(image_B3HW)  # a compiled network has no truth value
        return output.float()


@dataclass(kw_only=True)
class Task(Model):
    """weights: one per loss term; a term without one is a KeyError. lr: the pose network's peak rate."""

    optimizer: torch.optim.Optimizer
    weights: dict[str, float]
    lr: float
    schedule: ScheduleParams
    clip: float

    def step(self, batch: Any, *, done: int, steps: int) -> Terms:
        """One optimisation step, with `done` of `steps` taken before. Returns the terms, unweighted, and their weighted sum `loss`."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * schedule_factor(self.schedule, done, steps)
        terms = self.problem.losses(self(batch.image_B3HW), batch)
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        self.optimizer.step()
        return {name: term.detach() for name, term in terms.items()} | {"loss": loss.detach()}


def schedule_factor(params: ScheduleParams, done: int, steps: int) -> float:
    """What the peak rate is multiplied by after `done` of `steps` steps. A function of the step alone: a restart needs no state.

    Linear warm-up over the first `warmup` of the run; then constant, half a cosine down to zero, or times `gamma` at each milestone
    (milestones are shares of the run).
    """
    share = done / steps
    warm = min(1.0, (done + 1) / (params.warmup * steps)) if params.warmup else 1.0
    if params.name == "cosine":
        rest = (share - params.warmup) / (1 - params.warmup) if params.warmup < 1 else 0.0
        return warm * 0.5 * (1 + math.cos(math.pi * min(max(rest, 0.0), 1.0)))
    if params.name == "steps":
        return warm * params.gamma ** sum(share >= milestone for milestone in params.milestones)
    return warm


def build_optimizer(parameters: list[nn.Parameter], params: OptimizerParams, lr: float) -> torch.optim.Optimizer:
    """RMSprop (alpha 0.99, as published), Adam or AdamW."""
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "rmsprop": torch.optim.RMSprop,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    return kinds[params.name](parameters, lr=lr, weight_decay=params.weight_decay)


def build_problem(params: SingleParams | MultiParams) -> Problem:
    """The problem that these parameters are of."""
    return SinglePerson(params) if isinstance(params, SingleParams) else MultiPerson(params)


def in_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16. auto: where the device has instructions for it; elsewhere it would be slower, not faster."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch says so under private names only; one that lacks them computes in float32.
    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in asked)


def build_task(params: Params, name: str, *, device: torch.device) -> Task:
    """The task of that name, its weights drawn from the seed; UserError for a name that params.yaml lacks."""
    spec = params.task(name)
    problem = build_problem(params.problem(spec.problem))
    with torch.random.fork_rng(devices=[]):  # leave the caller's generator as it was
        torch.manual_seed(params.seed)
        net = problem.network(spec.network)
    net.to(device=device, memory_format=torch.channels_last if params.train.channels_last else torch.contiguous_format)  # type: ignore[call-overload]
    lr = params.lr * spec.lr_scale
    return Task(
        name=name,
        problem=problem,
        spec=spec.network,
        net=net,
        device=device,
        autocast=in_bfloat16(params.train.precision, device),
        run=torch.compile(net) if params.train.compile else None,
        optimizer=build_optimizer(list(net.parameters()), spec.optimizer, lr),
        weights=spec.weights,
        lr=lr,
        schedule=spec.schedule,
        clip=spec.clip,
    )
