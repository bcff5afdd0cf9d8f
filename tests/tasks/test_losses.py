"""The kinds of heatmap loss: their formulas written out, what they ignore and what they are least for."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pose.keypoints.heatmap import encode
from pose.tasks.losses import MultiFocal, MultiMSE, SingleCrossEntropy, SingleMSE

B, S, K, SIDE = 2, 3, 4, 5  # images, stacks, joints, cells a side


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


OUTPUT = 4 * drawn(B, S, K, SIDE, SIDE) - 2
TARGET = drawn(B, K, SIDE, SIDE, seed=1)
ALL_JOINTS, ALL_CELLS = torch.ones(B, K), torch.ones(B, 1, SIDE, SIDE)

# Of each kind a loss of one cell or map, and what the sum over all of them is divided by.


def squared(target: float, output: float) -> float:
    return (target - output) ** 2


def focal(gamma: float) -> Callable[[float, float], float]:
    def loss(target: float, logit: float) -> float:
        p = 1 / (1 + math.exp(-logit))
        return -(abs(target - p) ** gamma) * ((1 - target) * math.log(1 - p) + target * math.log(p))

    return loss


@pytest.mark.parametrize("foreground", [0.0, 20.0])
def test_single_mse_is_the_mean_over_people_joints_and_cells_summed_over_stacks(foreground):
    mask = (drawn(B, K) < 0.7).float()
    total = 0.0
    for b, s, k, y, x in np.ndindex(B, S, K, SIDE, SIDE):
        target = float(TARGET[b, k, y, x])
        weight = float(mask[b, k]) * (1 + foreground * target)
        total += weight * squared(target, float(OUTPUT[b, s, k, y, x])) / (B * K * SIDE**2)
    assert float(SingleMSE(foreground).loss(OUTPUT, TARGET, mask)) == pytest.approx(total, rel=1e-5)


def test_single_cross_entropy_is_that_of_the_softmax_summed_over_stacks():
    total = 0.0
    for b, s, k in np.ndindex(B, S, K):
        share, logit = (
            x.flatten().double().numpy() for x in (TARGET[b, k] / TARGET[b, k].sum(), OUTPUT[b, s, k])
        )
        total -= float((share * (logit - np.log(np.exp(logit).sum()))).sum()) / (B * K)
    found = SingleCrossEntropy(sigma=1.0).loss(OUTPUT, TARGET, ALL_JOINTS)
    assert float(found) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("foreground", [0.0, 20.0])
@pytest.mark.parametrize(
    "gamma", [None, 0.0, 1.0, 2.0], ids=lambda gamma: f"focal {gamma}" if gamma else "mse"
)
def test_multi_losses_are_means_over_images_stacks_and_joints(gamma, foreground):
    mask = (drawn(B, K, SIDE, SIDE) < 0.7).float()
    kind = MultiMSE(foreground) if gamma is None else MultiFocal(gamma, foreground)
    cell_loss, cells = (squared, SIDE**2) if gamma is None else (focal(gamma), 1)  # focal: summed over cells
    total = 0.0
    for b, s, k, y, x in np.ndindex(B, S, K, SIDE, SIDE):
        target = float(TARGET[b, k, y, x])
        weight = float(mask[b, k, y, x]) * (1 + foreground * target)
        total += weight * cell_loss(target, float(OUTPUT[b, s, k, y, x])) / (B * S * K * cells)
    assert float(kind.loss(OUTPUT, TARGET, mask)) == pytest.approx(total, rel=1e-5)


# The output that each kind teaches, of a target.
IDEAL: dict[str, tuple[Any, Tensor, Callable[[Tensor], Tensor]]] = {
    "single mse": (SingleMSE(20.0), ALL_JOINTS, lambda target: target),
    "single cross-entropy": (
        SingleCrossEntropy(1.0),
        ALL_JOINTS,
        lambda target: target.clamp(min=1e-30).log(),
    ),
    "multi mse": (MultiMSE(20.0), ALL_CELLS, lambda target: target),
    "multi focal": (MultiFocal(1.0), ALL_CELLS, lambda target: target.clamp(1e-6, 1 - 1e-6).logit()),
}
EVERY = pytest.mark.parametrize(("kind", "mask", "ideal"), IDEAL.values(), ids=IDEAL)


@EVERY
def test_a_loss_is_least_where_the_activated_output_is_the_target(kind, mask, ideal):
    heatmap, _ = encode(np.full((K, 2), 8.0), np.ones(K, dtype=bool), size=17, sigma=1.0)
    target = torch.from_numpy(heatmap).expand(B, K, 17, 17)
    torch.testing.assert_close(kind.activate(ideal(target)), target, atol=1e-4, rtol=1e-4)
    output = ideal(TARGET)[:, None]
    least = float(kind.loss(output, TARGET, mask))
    assert float(kind.loss(output + 0.3 * drawn(*output.shape), TARGET, mask)) > least + 1e-3
    if not isinstance(kind, SingleCrossEntropy):  # whose least value is the target's entropy
        assert least == pytest.approx(0, abs=1e-5)


@EVERY
def test_what_is_masked_has_no_gradient_and_everything_else_has_one(kind, mask, ideal):
    mask, output = mask.clone(), OUTPUT.clone().requires_grad_()
    mask[0, 0] = 0  # a joint, or an image
    kind.loss(output, TARGET, mask).backward()
    expected = (mask[:, :, None, None] if mask.ndim == 2 else mask).expand(B, K, SIDE, SIDE) > 0
    assert torch.equal(output.grad.ne(0), expected[:, None].expand_as(output))


def test_cross_entropy_leaves_out_joints_outside_the_crop_and_mse_trains_them_towards_empty_maps():
    target = TARGET.clone()
    target[0, 1] = 0
    outside = torch.ones(B, K)
    outside[0, 1] = 0
    for kind, counts in ((SingleCrossEntropy(1.0), outside), (SingleMSE(), ALL_JOINTS)):
        assert torch.equal(kind.counts(target, ALL_JOINTS), counts)
        output = OUTPUT.clone().requires_grad_()
        kind.loss(output, target, ALL_JOINTS).backward()
        assert bool(output.grad[0, :, 1].any()) == bool(counts[0, 1])
