"""Muon: momentum whose step for a matrix is orthogonalised.

K. Jordan et al. 2024, kellerjordan.github.io/posts/muon. torch.optim.Muon takes matrices alone, one at a time
and in bfloat16; a pose network has a hundred small ones, and many CPUs have no fast bfloat16. Here all of one
shape are one batched product in float32: a sixth of the time, the same on every machine.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

EPS = 1e-7
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the source: singular values end between 0.7 and 1.2


class Muon(torch.optim.Optimizer):
    """Groups with `matrices: True` take Muon's step, the others AdamW's.

    A weight of four dimensions is the matrix of its first one and all others. momentum: of Muon, Nesterov's.
    betas: of AdamW. weight_decay: of both, decoupled.
    """

    def __init__(
        self,
        params: list[nn.Parameter] | list[dict[str, Any]],
        *,
        lr: float,
        weight_decay: float,
        momentum: float,
        betas: tuple[float, float],
    ):
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas}
        super().__init__(params, defaults | {"matrices": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of every weight that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            pairs = [(weight, weight.grad) for weight in group["params"] if weight.grad is not None]
            if pairs:
                weights, grads = zip(*pairs, strict=True)
                (self._muon if group["matrices"] else self._adamw)(group, list(weights), list(grads))

    def _muon(self, group: dict[str, Any], weights: list[Tensor], grads: list[Tensor]) -> None:
        momentum, lr = group["momentum"], group["lr"]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["momentum"] = torch.zeros_like(weight)
        buffers = [self.state[weight]["momentum"] for weight in weights]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        updates = torch._foreach_lerp(grads, buffers, momentum)
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - lr * group["weight_decay"])
        by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, weight in enumerate(weights):
            by_shape[weight.shape].append(index)
        for (rows, inputs, height, width), indices in by_shape.items():
            columns = inputs * height * width
            # In the order of memory with train.channels_last; the step does not depend on it.
            stacked = torch.stack([updates[index].permute(0, 2, 3, 1) for index in indices])
            steps = orthogonalise(stacked.view(len(indices), rows, columns)).reshape(stacked.shape)
            rate = lr * max(1.0, rows / columns) ** 0.5
            some = [weights[index] for index in indices]
            torch._foreach_add_(some, [*steps.permute(0, 1, 4, 2, 3)], alpha=-rate)

    def _adamw(self, group: dict[str, Any], weights: list[Tensor], grads: list[Tensor]) -> None:
        for weight in weights:
            if not self.state[weight]:
                zeros = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
                self.state[weight] |= {"step": torch.zeros(()), **zeros}
        states = [self.state[weight] for weight in weights]
        beta1, beta2 = group["betas"]
        adamw(
            weights,
            grads,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            **adam_kernel(weights[0]),
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


class AdamKernel(TypedDict):
    fused: bool
    foreach: bool


def adam_kernel(weight: Tensor) -> AdamKernel:
    """How torch's Adam and AdamW take all weights, which are many and small, at once.

    On a CPU fused, in a third of the time; elsewhere by calls for lists of tensors. The fused kernel takes
    for granted that a gradient lies in memory as its weight does, which autograd sees to.
    """
    fused = weight.device.type == "cpu"
    return {"fused": fused, "foreach": not fused}


def orthogonalise(matrix_Nrc: Tensor) -> Tensor:
    """N matrices with the same singular vectors and singular values near 1, by a Newton-Schulz iteration."""
    a, b, c = COEFFICIENTS
    wide = matrix_Nrc.shape[1] <= matrix_Nrc.shape[2]
    x = matrix_Nrc if wide else matrix_Nrc.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + EPS)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT
