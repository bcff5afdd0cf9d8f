"""The adversary: what each side minimises, what stays untouched, what moves k_t."""

import copy
from typing import Any

import pytest
import torch
from helpers import build_cpu_task, with_values
from torch import Tensor, nn

from pose.data.batch import Batch
from pose.params import Params
from pose.tasks.adversary import Adversary
from pose.tasks.task import Task

PLAIN = {"advpose": "hgpose", "advpose-ae": "hgpose-ae"}
EITHER = pytest.mark.parametrize("name", PLAIN)


def adversarial(params: Params, name: str, **values: object) -> Task:
    """An adversarial task in float32, by default active from the first step."""
    settings = {"start_fraction": 0.0} | values
    changes = {f"tasks.{name}.adversary.{key}": value for key, value in settings.items()}
    return build_cpu_task(with_values(params, changes | {"train.precision": "float32"}), name)


def equal(a: nn.Module, b: nn.Module) -> bool:
    tensors = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in tensors)


def steps(task: Task, batches: dict[str, Batch], count: int) -> list[dict[str, float]]:
    rows = (task.step(batches[task.problem.kind], done=done, steps=10) for done in range(count))
    return [{name: float(value) for name, value in row.items()} for row in rows]


# In a task


@EITHER
def test_a_weight_of_zero_leaves_the_pose_network_the_bits_of_the_plain_task(params, batches, name):
    plain = build_cpu_task(with_values(params, {"train.precision": "float32"}), PLAIN[name])
    task = adversarial(params, name, weight=0.0)
    assert equal(plain.net, task.net)
    before = copy.deepcopy(task.adversary.net)
    losses = [[row["loss"] for row in steps(one, batches, 3)] for one in (plain, task)]
    assert losses[0] == losses[1]
    assert equal(plain.net, task.net)
    assert not equal(before, task.adversary.net)  # which learns all the same
    other = adversarial(params, name, weight=1.0)
    steps(other, batches, 3)
    assert not equal(plain.net, other.net)


def test_it_begins_at_its_share_of_the_steps(params, batches):
    task = adversarial(params, "advpose", start_fraction=0.2, weight=2.0)
    before = copy.deepcopy(task.adversary.net)
    first, second, third = steps(task, batches, 3)
    assert first.keys() == second.keys() == {"heatmap", "loss"}
    assert third.keys() == {"heatmap", "loss", "E_real", "E_fake", "k", "balance", "convergence"}
    assert third["loss"] == pytest.approx(third["heatmap"] + 2 * third["E_fake"])
    assert not equal(before, task.adversary.net)


@EITHER
def test_it_does_not_see_what_is_masked_in_the_loss(params, batches, name):
    task = build_cpu_task(params, name)
    batch = batches[task.problem.kind].map(torch.clone)
    targets = batch.targets
    (targets.mask_BK if name == "advpose" else targets.mask_Bhw)[0] = 0
    for heatmap_BKhw in task.problem.adversarial_inputs(task(batch.inputs.image_B3HW), targets):
        assert not heatmap_BKhw[0].any()
        assert heatmap_BKhw[1:].any()


# Alone, in float64


def alone(params: Params, **values: object) -> tuple[Adversary, Tensor, Tensor, Tensor]:
    """An adversary, an image, true heatmaps, and predicted ones that require their gradient."""
    adversary = adversarial(params, "advpose", **values).adversary
    adversary.net.double()
    rng = torch.Generator().manual_seed(0)
    sizes = ((3, 64), (16, 16), (16, 16))
    image, real, fake = (
        torch.rand(2, channels, side, side, generator=rng).double() for channels, side in sizes
    )
    return adversary, image, real, fake.requires_grad_()


def errors(net: nn.Module, image: Tensor, real: Tensor, fake: Tensor, target: Tensor) -> list[Tensor]:
    """E(real) and E(fake) as they are written in the paper."""
    small = image.reshape(2, 3, 16, 4, 16, 4).mean(dim=(3, 5))
    return [((net(torch.cat([small, x], 1)) - y) ** 2).mean() for x, y in ((real, real), (fake, target))]


@pytest.mark.parametrize("gradient", ["input", "both"])
def test_the_pose_networks_gradient_is_that_of_the_weighted_reconstruction_error(params, gradient):
    adversary, image, real, fake = alone(params, gradient=gradient, weight=0.25)
    net = copy.deepcopy(adversary.net)
    _, grad = adversary.step(image, real, fake)
    _, error_fake = errors(net, image, real, fake, fake if gradient == "both" else fake.detach())
    [expected] = torch.autograd.grad(0.25 * error_fake, [fake])
    torch.testing.assert_close(grad, expected, rtol=1e-9, atol=1e-15)
    assert fake.grad is None  # the adversary's own step reaches nothing else


def test_it_minimises_the_error_of_true_heatmaps_minus_k_times_that_of_predicted_ones(params):
    adversary, image, real, fake = alone(params)
    adversary.k = torch.tensor(0.3, dtype=torch.float64)
    net = copy.deepcopy(adversary.net)
    optimizer = torch.optim.Adam(net.parameters(), lr=adversary.params.lr)
    error_real, error_fake = errors(net, image, real, fake.detach(), fake.detach())
    (error_real - 0.3 * error_fake).backward()
    optimizer.step()
    metrics, _ = adversary.step(image, real, fake)
    torch.testing.assert_close(list(adversary.net.parameters()), list(net.parameters()), rtol=1e-7, atol=1e-9)
    found = [metrics["E_real"], metrics["E_fake"]]
    torch.testing.assert_close(found, [error_real.detach(), error_fake.detach()])


def test_k_follows_the_balance_and_stays_between_zero_and_one(params):
    adversary, image, real, fake = alone(params, balance_rate=0.5, gamma=0.7)
    k = 0.2
    adversary.k = torch.tensor(k, dtype=torch.float64)
    for _ in range(3):
        metrics: dict[str, Any] = {
            key: float(value) for key, value in adversary.step(image, real, fake)[0].items()
        }
        assert metrics["k"] == pytest.approx(k, abs=1e-12)
        balance = 0.7 * metrics["E_real"] - metrics["E_fake"]
        assert metrics["balance"] == pytest.approx(balance)
        assert metrics["convergence"] == pytest.approx(metrics["E_real"] + abs(balance))
        k = min(1.0, max(0.0, k + 0.5 * balance))
    for gamma, end in ((100, 1.0), (1e-3, 0.0)):
        adversary, image, real, fake = alone(params, balance_rate=100, gamma=gamma)
        adversary.step(image, real, fake)
        assert float(adversary.k) == end


def test_every_norm_counts_its_batches(params, batches):
    task = adversarial(params, "advpose", start_fraction=0)
    steps(task, batches, 2)
    task.net.eval()
    task(batches["single"].inputs.image_B3HW)
    for net, batches_of_net in ((task.net, 2), (task.adversary.net, 4)):  # true and predicted heatmaps
        counts = {int(count) for name, count in net.named_buffers() if name.endswith("num_batches_tracked")}
        assert counts == {batches_of_net}


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_lie_in_memory_as_the_weights_do_which_fused_adam_takes_for_granted(
    params, batches, channels_last, precision
):
    changes = {"train.channels_last": channels_last, "train.precision": precision}
    task = build_cpu_task(with_values(params, changes), "advpose")
    task.step(batches["single"], done=9, steps=10)
    for net in (task.net, task.adversary.net):
        for name, weight in net.named_parameters():
            strides = zip(weight.shape, weight.grad.stride(), weight.stride(), strict=True)
            assert all(found == expected for size, found, expected in strides if size > 1), name
