"""The adversary of self-adversarial training (arXiv 1707.02439).

B images, K joints, H W input px, h w heatmap cells. E(x): mean squared error between heatmaps x and their
reconstruction by the discriminator.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pose.keypoints.geometry import STRIDE
from pose.models.discriminator import Discriminator
from pose.params import AdamParams, AdversaryParams
from pose.tasks.base import Terms
from pose.tasks.optimizers import build_optimizer


class Adversary:
    """A discriminator, its optimizer (Adam, as published) and the balance k_t.

    The discriminator learns to reconstruct true heatmaps well and predicted ones badly: it minimises E(real)
    - k_t E(fake). The pose network minimises weight * E(fake) beside its own loss. After each step k_t <-
    clip(k_t + balance_rate * (gamma * E(real) - E(fake)), 0, 1). mean: averages a tensor over all processes,
    None for one.
    """

    mean: Callable[[Tensor], Tensor] | None

    def __init__(
        self,
        params: AdversaryParams,
        *,
        joints: int,
        device: torch.device,
        layout: torch.memory_format,
        autocast: bool,
    ):
        self.params, self.autocast, self.mean = params, autocast, None
        self.net = Discriminator(outputs=joints, **params.network.model_dump(exclude={"kind"}))
        self.net.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        adam = AdamParams(name="adam", weight_decay=0.0, betas=[0.9, 0.999])  # torch's, as published
        self.optimizer = build_optimizer([*self.net.parameters()], adam, params.lr)
        self.k = torch.zeros((), dtype=torch.float64, device=device)

    def is_active(self, done: int, steps: int) -> bool:
        """Whether it takes part after `done` of `steps` steps, which it does from `start_fraction` on."""
        return done >= self.params.start_fraction * steps

    def step(self, image_B3HW: Tensor, real_BKhw: Tensor, fake_BKhw: Tensor) -> tuple[Terms, Tensor | None]:
        """One step of the discriminator and of k_t; returns its metrics and the pose network's gradient.

        image_B3HW: the network's input. real_BKhw, fake_BKhw: heatmaps on one scale, 0 where the loss is
        masked. The metrics are means over all processes. The gradient is that of weight * E(fake) with
        respect to fake_BKhw, None if weight is 0; the graph of fake_BKhw is not touched.
        """
        params, weights = self.params, list(self.net.parameters())
        image_B3hw = F.avg_pool2d(image_B3HW, STRIDE)
        fake = fake_BKhw.detach().requires_grad_(bool(params.weight))
        error_real = self._error(image_B3hw, real_BKhw, real_BKhw)
        real_grads = torch.autograd.grad(error_real, weights)
        error_fake = self._error(image_B3hw, fake, fake if params.gradient == "both" else fake.detach())
        grads = torch.autograd.grad(error_fake, [*weights, fake] if params.weight else weights)
        fake_grads, pose_grads = grads[: len(weights)], grads[len(weights) :]
        errors = torch.stack([error_real.detach(), error_fake.detach()])
        torch._foreach_mul_(fake_grads, self.k.to(errors.dtype))
        combined = torch._foreach_sub(real_grads, fake_grads)
        if self.mean:  # gradients and errors in one exchange
            averaged = self.mean(torch.cat([*(one.reshape(-1) for one in combined), errors]))
            *parts, errors = averaged.split([*(one.numel() for one in combined), len(errors)])
            torch._foreach_copy_(
                combined, [part.view_as(one) for part, one in zip(parts, combined, strict=True)]
            )
        for weight, grad in zip(weights, combined, strict=True):
            weight.grad = grad
        self.optimizer.step()
        real, fake_error = errors.double().unbind()
        balance = params.gamma * real - fake_error
        metrics = {"E_real": real, "E_fake": fake_error, "k": self.k, "balance": balance}
        metrics["convergence"] = real + balance.abs()
        self.k = (self.k + params.balance_rate * balance).clamp(0, 1)
        return metrics, params.weight * pose_grads[0] if pose_grads else None

    def state_dict(self) -> dict[str, Any]:
        """Everything that further steps depend on."""
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "k": self.k}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore optimizer and k_t; the caller loads the network's tensors (`pose.io.torch_file`)."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.k = state["k"].to(self.k.device)

    def _error(self, image_B3hw: Tensor, heatmap_BKhw: Tensor, target_BKhw: Tensor) -> Tensor:
        self.net.count_batches()
        with torch.autocast(image_B3hw.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            reconstructed_BKhw = self.net(torch.cat([image_B3hw, heatmap_BKhw], dim=1))
        return F.mse_loss(reconstructed_BKhw.to(target_BKhw.dtype), target_BKhw)
