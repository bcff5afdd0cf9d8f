"""The adversary of self-adversarial training (arXiv 1707.02439): a network that repaints heatmaps, and the game against it.

Legend: B images, K joints, H W input px, h w heatmap cells. E(x) is the mean squared error between heatmaps x and their repainting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pose.geometry import STRIDE
from pose.nets.discriminator import Discriminator
from pose.params import AdversaryParams
from pose.problem import Terms


@dataclass(kw_only=True)
class Adversary:
    """A discriminator, its optimizer and the balance k_t, and nothing of the pose network.

    The discriminator is to repaint true heatmaps well and the pose network's badly: it descends E(real) - k_t E(fake). The pose network
    descends, beside its own loss, weight * E(fake). After each step k_t <- clip(k_t + balance_rate * (gamma * E(real) - E(fake)), 0, 1).
    mean: the mean of a tensor over all processes that train together, the same in each of them.
    """

    params: AdversaryParams
    net: Discriminator
    optimizer: torch.optim.Optimizer
    autocast: bool = False
    k: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    mean: Callable[[Tensor], Tensor] = lambda values: values

    @staticmethod
    def build(params: AdversaryParams, *, joints: int, device: torch.device, layout: torch.memory_format, autocast: bool) -> Adversary:
        """A new one, its weights drawn as torch's layers do (see `pose.nets.initial`); Adam, as published."""
        net = Discriminator(joints=joints, **params.network.model_dump(exclude={"kind"}))
        net.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        k = torch.zeros((), dtype=torch.float64, device=device)
        return Adversary(params=params, net=net, optimizer=torch.optim.Adam(net.parameters(), lr=params.lr), autocast=autocast, k=k)

    def plays(self, done: int, steps: int) -> bool:
        """Whether the game is on after `done` of `steps` steps: before `start`, a share of them, the pose network learns alone."""
        return done >= self.params.start * steps

    def step(self, image_B3HW: Tensor, real_BKhw: Tensor, fake_BKhw: Tensor) -> tuple[Terms, Tensor | None]:
        """One step of the discriminator and of k_t; what the pose network is to make of it.

        image_B3HW: what the network was shown. real_BKhw, fake_BKhw: heatmaps on one scale, both empty where the loss does not look.
        Returns the figures of the game, means over all processes, and the gradient of weight * E(fake) in fake_BKhw, None if weight is 0.
        The graph of fake_BKhw is not touched, so nothing of the discriminator's own step reaches the pose network.
        """
        params, weights = self.params, list(self.net.parameters())
        image_B3hw = F.avg_pool2d(image_B3HW, STRIDE)
        shown = fake_BKhw.detach().requires_grad_(bool(params.weight))
        error_real = self._error(image_B3hw, real_BKhw, real_BKhw)
        slope_real = torch.autograd.grad(error_real, weights)
        error_fake = self._error(image_B3hw, shown, shown if params.gradient == "both" else shown.detach())
        slopes = torch.autograd.grad(error_fake, [*weights, shown] if params.weight else weights)
        slope_fake, slope = slopes[: len(weights)], slopes[len(weights) :]
        # One exchange for all of it: the gradients, and the two errors that k_t is moved by.
        errors = torch.stack([error_real.detach(), error_fake.detach()])
        descent = _flat(slope_real) - self.k.to(errors.dtype) * _flat(slope_fake)
        agreed = self.mean(torch.cat([descent, errors]))
        for weight, part in zip(weights, agreed[:-2].split([weight.numel() for weight in weights]), strict=True):
            weight.grad = part.view_as(weight)
        self.optimizer.step()
        real, fake = agreed[-2:].double()
        balance = params.gamma * real - fake
        figures = {"E_real": real, "E_fake": fake, "k": self.k, "balance": balance, "convergence": real + balance.abs()}
        self.k = (self.k + params.balance_rate * balance).clamp(0, 1)
        return figures, params.weight * slope[0] if slope else None

    def state(self) -> dict[str, Any]:
        """Everything that the rest of a game depends on."""
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "k": self.k}

    def resume(self, state: dict[str, Any]) -> None:
        """Take up optimizer and k_t of such a state again; the network's tensors are the caller's to load (`checkpoint.fill`)."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.k = state["k"].to(self.k.device)

    def _error(self, image_B3hw: Tensor, heatmap_BKhw: Tensor, target_BKhw: Tensor) -> Tensor:
        with torch.autocast(image_B3hw.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            painted_BKhw = self.net(torch.cat([image_B3hw, heatmap_BKhw], dim=1))
        return F.mse_loss(painted_BKhw.to(target_BKhw.dtype), target_BKhw)


def _flat(gradients: Any) -> Tensor:
    return torch.cat([gradient.reshape(-1) for gradient in gradients])
