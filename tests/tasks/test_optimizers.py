"""Optimizers and learning-rate schedules."""

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from pose.models.hourglass import StackedHourglass
from pose.params import InitParams, OptimizerParams, ScheduleParams
from pose.tasks.muon import orthogonalise
from pose.tasks.optimizers import build_optimizer, parameter_groups, schedule_factor


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


MUON = {"name": "muon", "weight_decay": 0.1, "momentum": 0.9, "betas": [0.8, 0.95], "rest_lr": 0.25}


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"name": "rmsprop"}, torch.optim.RMSprop),
        ({"name": "adam", "betas": [0.8, 0.95]}, torch.optim.Adam),
        ({"name": "adamw", "betas": [0.8, 0.95]}, torch.optim.AdamW),
    ],
)
def test_an_optimizer_is_the_one_named_with_its_parameters(values, kind):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = build_optimizer([weight], parse_optimizer(values | {"weight_decay": 0.5}), lr=0.25)
    assert type(optimizer) is kind
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.25, 0.5)
    assert optimizer.defaults.get("betas", (0.8, 0.95)) == (0.8, 0.95)
    weight.grad = torch.ones(3)
    optimizer.step()
    assert (weight < 1).all()


def parse_optimizer(values: dict[str, Any]) -> OptimizerParams:
    return TypeAdapter(OptimizerParams).validate_python(values)


@pytest.mark.parametrize("shape", [(64, 32, 1, 1), (32, 32, 3, 3), (8, 4, 7, 7)])
def test_orthogonalised_matrices_have_singular_values_near_one_and_the_same_singular_vectors(shape):
    matrix_Nrc = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).flatten(2)
    found_Nrc = orthogonalise(matrix_Nrc)
    assert found_Nrc.shape == matrix_Nrc.shape
    assert (torch.linalg.svdvals(found_Nrc) - 0.95).abs().max() < 0.3
    left, _, right = torch.linalg.svd(matrix_Nrc, full_matrices=False)
    rotated_Nkk = left.mT @ found_Nrc @ right.mT  # diagonal, if the singular vectors are the same
    off_diagonal = rotated_Nkk - torch.diag_embed(rotated_Nkk.diagonal(dim1=1, dim2=2))
    assert off_diagonal.abs().max() < 1e-4


def steps_of(optimizer: torch.optim.Optimizer, weight: torch.nn.Parameter) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    seen = []
    for _ in range(4):
        values = torch.randn(weight.numel(), generator=generator).view(weight.shape)
        weight.grad = torch.empty_like(weight).copy_(values)  # in its layout, as autograd has it
        optimizer.step()
        seen.append(weight.detach().clone().flatten(1))
    return seen


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_muon_of_a_convolution_is_torchs_of_its_matrix(layout):
    start = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    convolution = torch.nn.Parameter(start.clone(memory_format=layout))
    matrix = torch.nn.Parameter(start.flatten(1).clone())
    optimizer = build_optimizer([{"params": [convolution], "matrices": True}], parse_optimizer(MUON), lr=0.1)
    reference = torch.optim.Muon([matrix], lr=0.1, weight_decay=0.1, momentum=0.9)
    for found, expected in zip(steps_of(optimizer, convolution), steps_of(reference, matrix), strict=True):
        # torch orthogonalises in bfloat16.
        assert (found - expected).norm() < 0.03 * (expected - start.flatten(1)).norm()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_muon_does_not_train_has_adamws_steps(layout):
    start = torch.randn(3, 5, 1, 1, generator=torch.Generator().manual_seed(0))
    weight = torch.nn.Parameter(start.clone(memory_format=layout))
    reference = torch.nn.Parameter(start.clone(memory_format=layout))
    optimizer = build_optimizer([weight], parse_optimizer(MUON), lr=0.1)
    plain = {"foreach": False, "fused": False}
    adamw = torch.optim.AdamW([reference], lr=0.1, weight_decay=0.1, betas=(0.8, 0.95), **plain)
    for found, expected in zip(steps_of(optimizer, weight), steps_of(adamw, reference), strict=True):
        torch.testing.assert_close(found, expected)


def test_muon_trains_weights_between_features_and_adamw_the_others_at_its_own_rate():
    net = StackedHourglass(outputs=5, stacks=2, modules=1, features=16, stem=[8, 8, 16])
    names = {id(weight): name for name, weight in net.named_parameters()}
    init = InitParams(weights="a.pt", frozen=0.5, lr_scale=0.1)
    taken = {"stem.0.weight", "stem.3.conv1.weight"}
    groups = parameter_groups(net, parse_optimizer(MUON), init, taken)
    of_group = [{names[id(weight)] for weight in group["params"]} for group in groups]
    assert set[str]().union(*of_group) == set(names.values())
    assert sum(map(len, of_group)) == len(names)
    assert of_group[2:] == [{"stem.3.conv1.weight"}, {"stem.0.weight"}]
    assert {"remap_features.0.weight", "necks.0.1.0.weight"} <= of_group[0]
    assert {"heads.0.weight", "remap_heatmaps.0.weight", "stem.1.weight", "stem.3.conv1.bias"} <= of_group[1]
    assert [group["matrices"] for group in groups] == [True, False, True, False]
    assert [group["lr_scale"] for group in groups] == pytest.approx([1, 0.25, 0.1, 0.025])
    assert [group["start"] for group in groups] == [0, 0, 0.5, 0.5]
    optimizer = build_optimizer(groups, parse_optimizer(MUON), lr=0.1)
    net(torch.zeros(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    assert all(optimizer.state[weight] for weight in net.parameters() if weight.grad is not None)
