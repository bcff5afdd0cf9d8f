"""A model = a problem and its network; a task = a model being trained. The one step that trains any of them is here.

`advpose` and `advpose-ae` are `hgpose` and `hgpose-ae` with an adversary: there is no other step for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pose.adversary import Adversary
from pose.multi import MultiPerson
from pose.nets.initial import InitialWeights
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
        return output.float() if self.autocast else output


@dataclass(kw_only=True)
class Task(Model):
    """weights: one per loss term; a term without one is a KeyError. lr: the pose network's peak rate. adversary: None for a plain task."""

    optimizer: torch.optim.Optimizer
    weights: dict[str, float]
    lr: float
    schedule: ScheduleParams
    clip: float
    adversary: Adversary | None = None

    def step(self, batch: Any, *, done: int, steps: int) -> Terms:
        """One optimisation step, with `done` of `steps` taken before. Returns the terms, unweighted, and their weighted sum `loss`.

        Where an adversary plays, its figures are among them, and weight * E(fake) is part of the sum.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * schedule_factor(self.schedule, done, steps)
        output = self(batch.image_B3HW)
        terms = self.problem.losses(output, batch)
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        roots: list[Tensor] = [loss]
        slopes: list[Tensor | None] = [None]
        figures: Terms = {}
        total = loss.detach()
        if self.adversary and self.adversary.plays(done, steps):
            real_BKhw, fake_BKhw = self.problem.game(output, batch)
            figures, slope_BKhw = self.adversary.step(batch.image_B3HW, real_BKhw, fake_BKhw)
            total = total + self.adversary.params.weight * figures["E_fake"]
            if slope_BKhw is not None:
                roots.append(fake_BKhw)
                slopes.append(slope_BKhw)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(roots, slopes)
        if self.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        self.optimizer.step()
        return {name: term.detach() for name, term in terms.items()} | {"loss": total} | figures


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
    # foreach: the same arithmetic, all tensors a call; not the default on a CPU, where it saves some hundredths of a small network's step.
    return kinds[params.name](parameters, lr=lr, weight_decay=params.weight_decay, foreach=True)


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
    layout = torch.channels_last if params.train.channels_last else torch.contiguous_format
    autocast = in_bfloat16(params.train.precision, device)
    with InitialWeights(params.seed):
        net = problem.network(spec.network)  # first, so that it begins as in the task without an adversary
        net.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        joints = len(problem.skeleton)
        adversary = None
        if spec.adversary:
            adversary = Adversary.build(spec.adversary, joints=joints, device=device, layout=layout, autocast=autocast)
    if params.train.compile and adversary:
        adversary.net.compile()
    lr = params.lr * spec.lr_scale
    return Task(
        name=name,
        problem=problem,
        spec=spec.network,
        net=net,
        device=device,
        autocast=autocast,
        run=torch.compile(net) if params.train.compile else None,
        optimizer=build_optimizer(list(net.parameters()), spec.optimizer, lr),
        weights=spec.weights,
        lr=lr,
        schedule=spec.schedule,
        clip=spec.clip,
        adversary=adversary,
    )
