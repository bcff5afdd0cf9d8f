"""The game: what each side of it descends, what stays untouched, what moves k_t.

The references are the formulas written out.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pose.data.loader import Loader
from pose.params import AdversaryParams, Params
from pose.tasks.adversary import Adversary
from pose.tasks.task import Task, build_task

CPU = torch.device("cpu")
PAIRS = {"advpose": "hgpose", "advpose-ae": "hgpose-ae"}


def with_game(params: Params, name: str, **game: object) -> Params:
    """The parameters with others of the game, which is on from the first step if nothing else is said; in float32."""
    spec = params.task(name)
    assert spec.adversary
    adversary = AdversaryParams(**spec.adversary.model_dump() | {"start": 0.0} | game)
    tasks = params.tasks | {name: spec.model_copy(update={"adversary": adversary})}
    return params.model_copy(
        update={"tasks": tasks, "train": params.train.model_copy(update={"precision": "float32"})}
    )


@pytest.fixture
def batches(params: Params, prepared: Any, prepared_coco: Any) -> dict[str, Any]:
    """A batch of drawn people for each task."""
    found = {}
    for name in PAIRS:
        task = build_task(params, name, device=CPU)
        data = task.problem.data({"single": prepared, "multi": prepared_coco}[task.problem.kind], watched=0)
        [raw] = Loader(
            data.dataset(data.rows("train"), seed=1, augment=True),
            [[(0, row) for row in range(4)]],
            workers=0,
        )
        found[name] = raw.to(CPU)
    return found


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def steps(task: Task, batch: Any, count: int) -> list[dict[str, float]]:
    return [
        {name: float(value) for name, value in task.step(batch, done=done, steps=10).items()}
        for done in range(count)
    ]


@pytest.mark.parametrize("name", PAIRS)
def test_a_weight_of_zero_leaves_the_pose_network_the_bits_of_the_plain_task(
    params: Params, batches: dict[str, Any], name: str
):
    plain = build_task(with_game(params, name), PAIRS[name], device=CPU)
    played = build_task(with_game(params, name, weight=0.0), name, device=CPU)
    assert played.adversary
    before = copy.deepcopy(played.adversary.net)
    losses = [[row["loss"] for row in steps(task, batches[name], 3)] for task in (plain, played)]
    assert losses[0] == losses[1]
    assert same(plain.net, played.net)
    assert not same(before, played.adversary.net)  # which learns all the same


@pytest.mark.parametrize("name", PAIRS)
def test_a_weight_above_zero_moves_the_pose_network_elsewhere(
    params: Params, batches: dict[str, Any], name: str
):
    plain, played = (
        build_task(with_game(params, name, weight=weight), name, device=CPU) for weight in (0.0, 1.0)
    )
    for task in (plain, played):
        steps(task, batches[name], 1)
    assert not same(plain.net, played.net)


def game_of(params: Params, **game: object) -> tuple[Adversary, torch.Tensor, torch.Tensor, torch.Tensor]:
    """An adversary in float64, an image, true heatmaps, and the pose network's, which hang on a graph."""
    adversary = build_task(with_game(params, "advpose", **game), "advpose", device=CPU).adversary
    assert adversary
    adversary.net.double()
    rng = torch.Generator().manual_seed(0)
    image, real, fake = (
        torch.rand(2, channels, size, size, generator=rng).double()
        for channels, size in ((3, 64), (16, 16), (16, 16))
    )
    return adversary, image, real, fake.requires_grad_()


def errors(
    net: torch.nn.Module, image: torch.Tensor, real: torch.Tensor, fake: torch.Tensor, target: torch.Tensor
) -> list[torch.Tensor]:
    """E(real) and E(fake) as they are written in the paper."""
    small = image.reshape(2, 3, 16, 4, 16, 4).mean(dim=(3, 5))
    return [((net(torch.cat([small, x], 1)) - y) ** 2).mean() for x, y in ((real, real), (fake, target))]


@pytest.mark.parametrize("gradient", ["input", "both"])
def test_the_pose_networks_slope_is_that_of_the_weighted_repainting_error(params: Params, gradient: str):
    adversary, image, real, fake = game_of(params, gradient=gradient, weight=0.25)
    net = copy.deepcopy(adversary.net)
    _, slope = adversary.step(image, real, fake)
    _, error_fake = errors(net, image, real, fake, fake if gradient == "both" else fake.detach())
    [expected] = torch.autograd.grad(0.25 * error_fake, [fake])
    assert slope is not None
    torch.testing.assert_close(slope, expected, rtol=1e-9, atol=1e-15)
    assert fake.grad is None  # the adversary's own step reaches nobody


def test_the_adversary_descends_the_error_of_true_maps_less_k_times_that_of_the_others(params: Params):
    adversary, image, real, fake = game_of(params)
    adversary.k = torch.tensor(0.3, dtype=torch.float64)
    net = copy.deepcopy(adversary.net)
    optimizer = torch.optim.Adam(net.parameters(), lr=adversary.params.lr)
    error_real, error_fake = errors(net, image, real, fake.detach(), fake.detach())
    (error_real - 0.3 * error_fake).backward()
    optimizer.step()
    figures, _ = adversary.step(image, real, fake)
    for ours, expected in zip(adversary.net.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(figures["E_real"], error_real.detach())
    torch.testing.assert_close(figures["E_fake"], error_fake.detach())


def test_k_follows_the_balance_and_stays_between_zero_and_one(params: Params):
    adversary, image, real, fake = game_of(params, balance_rate=0.5, gamma=0.7)
    seen = 0.2
    adversary.k = torch.tensor(seen, dtype=torch.float64)
    for _ in range(3):
        figures, _ = adversary.step(image, real, fake)
        assert float(figures["k"]) == pytest.approx(seen, abs=1e-12)
        balance = 0.7 * float(figures["E_real"]) - float(figures["E_fake"])
        assert float(figures["balance"]) == pytest.approx(balance)
        assert float(figures["convergence"]) == pytest.approx(float(figures["E_real"]) + abs(balance))
        seen = min(1.0, max(0.0, seen + 0.5 * balance))
    for rate, gamma, end in ((1e6, 1e3, 1.0), (1e6, 1e-3, 0.0)):
        adversary, image, real, fake = game_of(params, balance_rate=rate, gamma=gamma)
        adversary.step(image, real, fake)
        assert float(adversary.k) == end


def test_the_game_begins_at_its_share_of_the_steps(params: Params, batches: dict[str, Any]):
    task = build_task(with_game(params, "advpose", start=0.2), "advpose", device=CPU)
    assert task.adversary
    before = copy.deepcopy(task.adversary.net)
    first, second, third = steps(task, batches["advpose"], 3)
    assert "k" not in first | second
    assert {"E_real", "E_fake", "k", "balance", "convergence"} < third.keys()
    assert not same(before, task.adversary.net)


def test_the_loss_that_is_shown_holds_the_weighted_repainting_error(params: Params, batches: dict[str, Any]):
    [row] = steps(
        build_task(with_game(params, "advpose", weight=2.0), "advpose", device=CPU), batches["advpose"], 1
    )
    assert row["loss"] == pytest.approx(row["heatmap"] + 2 * row["E_fake"])


@pytest.mark.parametrize("name", PAIRS)
def test_neither_side_sees_what_the_loss_does_not_look_at(params: Params, batches: dict[str, Any], name: str):
    task, batch = build_task(params, name, device=CPU), copy.deepcopy(batches[name])
    hidden = batch.mask_BK if name == "advpose" else batch.mask_Bhw
    hidden[0] = 0
    real, fake = task.problem.game(task(batch.image_B3HW), batch)
    assert not real[0].any()
    assert not fake[0].any()
    assert real[1:].any()
    assert fake[1:].any()


def test_true_maps_and_the_networks_are_compared_on_one_scale(params: Params, batches: dict[str, Any]):
    """A network that says what is true, in its own way, paints the true maps."""
    task, batch = build_task(params, "advpose", device=CPU), batches["advpose"]
    assert params.single.loss == "cross_entropy"
    logits = batch.heatmap_BKhw.clamp(min=1e-30).log()
    real, fake = task.problem.game(logits[:, None], batch)
    inside = (batch.mask_BK > 0) & (
        batch.heatmap_BKhw.sum(dim=(2, 3)) > 6
    )  # the whole Gaussian lies in the map
    assert inside.sum() > 10
    assert F.l1_loss(real[inside], fake[inside]) < 1e-3


def test_the_pose_network_begins_as_without_an_adversary(params: Params):
    for name, plain in PAIRS.items():
        assert same(build_task(params, name, device=CPU).net, build_task(params, plain, device=CPU).net)
