"""The adversary of self-adversarial training (arXiv 1707.02439).

A network that repaints heatmaps, and the game.

Legend: B images, K joints, H W input px, h w heatmap cells. E(x): mean squared error between heatmaps x and
their repainting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pose.keypoints.geometry import STRIDE
from pose.models.discriminator import Discriminator
from pose.params import AdversaryParams
from pose.tasks.base import Terms


@dataclass(kw_only=True)
class Adversary:
    """A discriminator, its optimizer and the balance k_t, and nothing of the pose network.

    The discriminator learns to repaint true heatmaps well and the pose network's badly: it minimises
    E(real) - k_t E(fake). The pose network minimises, beside its own loss, weight * E(fake). After each step
    k_t <- clip(k_t + balance_rate * (gamma * E(real) - E(fake)), 0, 1).
    mean: the mean of a tensor over all processes that train together, the same in each of them.
    """

    params: AdversaryParams
    net: Discriminator
    optimizer: torch.optim.Optimizer
    autocast: bool = False
    k: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    mean: Callable[[Tensor], Tensor] = lambda values: values

    @staticmethod
    def build(
        params: AdversaryParams,
        *,
        joints: int,
        device: torch.device,
        layout: torch.memory_format,
        autocast: bool,
    ) -> Adversary:
        """A new one, its weights drawn as torch's layers do (see `pose.models.init`); Adam, as published."""
        net = Discriminator(joints=joints, **params.network.model_dump(exclude={"kind"}))
        net.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        k = torch.zeros((), dtype=torch.float64, device=device)
        optimizer = torch.optim.Adam(net.parameters(), lr=params.lr)
        return Adversary(params=params, net=net, optimizer=optimizer, autocast=autocast, k=k)

    def is_active(self, done: int, steps: int) -> bool:
        """Whether the game is on after `done` of `steps` steps; before `start_fraction` the pose network learns alone."""
        return done >= self.params.start_fraction * steps

    def step(self, image_B3HW: Tensor, real_BKhw: Tensor, fake_BKhw: Tensor) -> tuple[Terms, Tensor | None]:
        """One step of the discriminator and of k_t, and what the pose network gets from it.

        image_B3HW: the network's input. real_BKhw, fake_BKhw: heatmaps on one scale, both 0 where the loss is
        masked. Returns the values of the game, means over all processes, and the gradient of weight * E(fake)
        in fake_BKhw, None if weight is 0. The graph of fake_BKhw is not touched, so nothing of the
        discriminator's own step reaches the pose network.
        """
        params, weights = self.params, list(self.net.parameters())
        image_B3hw = F.avg_pool2d(image_B3HW, STRIDE)
        shown = fake_BKhw.detach().requires_grad_(bool(params.weight))
        error_real = self._error(image_B3hw, real_BKhw, real_BKhw)
        real_grads = torch.autograd.grad(error_real, weights)
        error_fake = self._error(image_B3hw, shown, shown if params.gradient == "both" else shown.detach())
        grads = torch.autograd.grad(error_fake, [*weights, shown] if params.weight else weights)
        fake_grads, shown_grad = grads[: len(weights)], grads[len(weights) :]
        # One exchange for all of it: the gradients, and the two errors that k_t is moved by.
        errors = torch.stack([error_real.detach(), error_fake.detach()])
        descent = _flat(real_grads) - self.k.to(errors.dtype) * _flat(fake_grads)
        averaged = self.mean(torch.cat([descent, errors]))
        for weight, part in zip(weights, averaged[:-2].split([one.numel() for one in weights]), strict=True):
            weight.grad = part.view_as(weight)
        self.optimizer.step()
        real, fake = averaged[-2:].double()
        balance = params.gamma * real - fake
        values = {
            "E_real": real,
            "E_fake": fake,
            "k": self.k,
            "balance": balance,
            "convergence": real + balance.abs(),
        }
        self.k = (self.k + params.balance_rate * balance).clamp(0, 1)
        return values, params.weight * shown_grad[0] if shown_grad else None

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of a game depends on."""
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "k": self.k}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore optimizer and k_t; the network's tensors are the caller's to load (`pose.io.torch_file`)."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.k = state["k"].to(self.k.device)

    def _error(self, image_B3hw: Tensor, heatmap_BKhw: Tensor, target_BKhw: Tensor) -> Tensor:
        with torch.autocast(image_B3hw.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            painted_BKhw = self.net(torch.cat([image_B3hw, heatmap_BKhw], dim=1))
        return F.mse_loss(painted_BKhw.to(target_BKhw.dtype), target_BKhw)


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.reshape(-1) for gradient in gradients])
