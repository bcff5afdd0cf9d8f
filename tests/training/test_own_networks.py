"""Networks that do what the built-in ones don't: draw, hold constants, have idle weights."""

import signal
from typing import Any

import pytest
import torch
from helpers import CPU, build_cpu_task, with_values
from torch import Tensor, nn

from pose.io.errors import Interrupted
from pose.io.files import file_hash
from pose.models.hourglass import StackedHourglass
from pose.models.init import InitialWeights
from pose.models.networks import HourglassParams
from pose.models.weights import build_network
from pose.training.trainer import StepCallback, train


class Own(StackedHourglass):
    """Coordinates beside the colours, weights drawn by hand, dropout."""

    def __init__(self, outputs: int, **sizes: object):
        super().__init__(outputs=outputs, **sizes)
        self.register_buffer("ramp_W", torch.linspace(0, 1, 64), persistent=False)
        self.place = nn.Parameter(0.02 * torch.randn(64))
        self.dropout = nn.Dropout2d(0.3)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return super().forward(self.dropout(image_B3HW) * (1 + self.ramp_W + self.place))


@pytest.fixture
def own(params, monkeypatch):
    def build(self: HourglassParams, outputs: int) -> Own:
        return Own(outputs, **self.model_dump(exclude={"kind"}))

    monkeypatch.setattr(HourglassParams, "build", build)
    return with_values(params, {"tasks.hgpose.epochs": 1})


def test_constants_that_are_in_no_file_come_back_with_the_weights(own):
    task = build_cpu_task(own, "hgpose")
    again, image = build_network(task.weights(), "last.pt", CPU), torch.rand(2, 3, 64, 64)
    assert torch.equal(again.ramp_W, torch.linspace(0, 1, 64))
    torch.testing.assert_close(again(image), task.net.eval()(image))


def test_weights_that_are_drawn_by_hand_follow_the_seed(own):
    first, second = (build_cpu_task(own, "hgpose").net for _ in range(2))
    assert torch.equal(first.place, second.place)


def test_whatever_draws_follows_the_seed_and_leaves_the_global_generator():
    def drawn(seed: int) -> list[float]:
        with InitialWeights(seed):
            values = [torch.rand(9), torch.randn(9), torch.randperm(9), torch.randint(9, (9,))]
            values += [torch.normal(0.0, torch.ones(9)), torch.bernoulli(torch.full((9,), 0.5))]
            values += [torch.zeros(9).bernoulli_(0.5), torch.zeros(9).random_(9)]
        return torch.cat([one.double() for one in values]).tolist()

    before = torch.get_rng_state()
    assert drawn(3) == drawn(3) != drawn(4)
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_draws_the_same_in_equal_and_in_resumed_runs(own, prepared, tmp_path):
    def stop(step: int, _: Any) -> None:
        if step == 2:
            signal.raise_signal(signal.SIGTERM)

    def weights(name: str, on_step: StepCallback | None = None) -> str:
        folder = tmp_path / name
        train(own, "hgpose", folder=folder, prepared=prepared, max_steps=5, on_step=on_step)
        return file_hash(folder / "models/hgpose/last.pt")

    first = weights("first")
    before = torch.get_rng_state()
    with pytest.raises(Interrupted):
        weights("second", stop)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    assert weights("second") == first
