"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import pytest
import torch

from pose.params import OptimizerParams, ScheduleParams
from pose.tasks.optimizers import build_optimizer, schedule_factor


def factors(
    name: str, done: list[int], *, warmup: float = 0.0, milestones: tuple[float, ...] = ()
) -> list[float]:
    values = {"name": name, "warmup": warmup, "milestones": list(milestones), "gamma": 0.1}
    schedule = ScheduleParams.model_validate(values)
    return [schedule_factor(schedule, step, 100) for step in done]


def test_schedules_have_the_shapes_they_are_named_for():
    assert factors("constant", [0, 99]) == [1, 1]
    assert factors("steps", [0, 49, 50, 75], milestones=(0.5, 0.75)) == pytest.approx([1, 1, 0.1, 0.01])
    assert factors("cosine", [0, 10, 55, 100], warmup=0.1) == pytest.approx([0.1, 1, 0.5, 0], abs=1e-9)
    assert factors("constant", [0, 49, 99], warmup=1.0) == pytest.approx([0.01, 0.5, 1])


@pytest.mark.parametrize(
    ("name", "kind"),
    [("rmsprop", torch.optim.RMSprop), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_an_optimizer_is_the_one_named_with_its_rate_and_decay(name: str, kind: type[torch.optim.Optimizer]):
    weight = torch.nn.Parameter(torch.ones(3))
    params = OptimizerParams.model_validate({"name": name, "weight_decay": 0.5})
    optimizer = build_optimizer([weight], params, lr=0.25)
    assert type(optimizer) is kind
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.25, 0.5)
    weight.grad = torch.ones(3)
    optimizer.step()
    assert (weight < 1).all()
