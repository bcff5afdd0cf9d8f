"""Heatmap losses: one class for each kind that `single.loss` and `multi.loss` in params.yaml can name.

B images, S stacks, K joints, h w heatmap cells, n cells of a map in a row.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from pose.params import MultiInferenceParams, MultiParams, SingleInferenceParams, SingleParams


def heatmap_loss(params: SingleInferenceParams | MultiInferenceParams) -> HeatmapLoss:
    """The loss that `params.loss` names; the parameters of inference are enough for `activate`."""
    foreground = params.foreground if isinstance(params, SingleParams | MultiParams) else 0.0
    kinds: dict[str, HeatmapLoss]
    if isinstance(params, SingleInferenceParams):
        kinds = {"mse": SingleMSE(foreground), "cross_entropy": SingleCrossEntropy(params.sigma)}
    else:
        gamma = params.focal_gamma if isinstance(params, MultiParams) else 1.0
        kinds = {"mse": MultiMSE(foreground), "focal": MultiFocal(gamma, foreground)}
    return kinds[params.loss]


class HeatmapLoss(ABC):
    """A kind of loss; also how its network's output becomes heatmaps, which inference needs too.

    empty_bias: what the network's heatmap channels begin at; None leaves them at about 0.
    """

    empty_bias: ClassVar[float | None] = None

    @abstractmethod
    def loss(self, output_BSKhw: Tensor, target_BKhw: Tensor, mask: Tensor) -> Tensor:
        """The heatmap term. mask: 0 for what is left out of the loss, else 1.

        Of one person a crop, mask_BK: the mean over people and joints, summed over the stacks. Of all people
        of an image, mask_BKhw (K may be 1): the mean over images and stacks. Both as in the published codes.
        """

    def counts(self, target_BKhw: Tensor, mask_BK: Tensor) -> Tensor:
        """Which maps count in the loss of one person a crop, (B, K), 1 or 0."""
        return mask_BK

    def activate(self, output_BKhw: Tensor) -> Tensor:
        """Heatmaps on the scale of the targets."""
        return output_BKhw


@dataclass(frozen=True)
class SingleMSE(HeatmapLoss):
    """Squared error, as published, weighted by 1 + foreground * target.

    Nearly all cells are empty, which plain squared error learns first and keeps predicting for long.
    """

    foreground: float = 0.0

    def loss(self, output_BSKhw: Tensor, target_BKhw: Tensor, mask: Tensor) -> Tensor:
        target = target_BKhw[:, None]
        weight = mask[:, None, :, None, None] * (1 + self.foreground * target)
        return (weight * (output_BSKhw - target).square()).mean(dim=(0, 2, 3, 4)).sum()


@dataclass(frozen=True)
class SingleCrossEntropy(HeatmapLoss):
    """Cross-entropy of a map's softmax over its cells with the target as a distribution.

    Joints outside the crop do not count, since a distribution cannot be empty. sigma: of the target, cells.
    """

    sigma: float

    def loss(self, output_BSKhw: Tensor, target_BKhw: Tensor, mask: Tensor) -> Tensor:
        target = target_BKhw[:, None]
        mass_B1K = target.sum(dim=(3, 4))
        share_B1Kn = (target / mass_B1K.clamp(min=1e-6)[..., None, None]).flatten(3)
        error_BSK = -(share_B1Kn * output_BSKhw.flatten(3).log_softmax(dim=3)).sum(dim=3)
        counts_B1K = mask[:, None] * (mass_B1K > 0)
        return (counts_B1K * error_BSK).mean(dim=(0, 2)).sum()

    def counts(self, target_BKhw: Tensor, mask_BK: Tensor) -> Tensor:
        return mask_BK * (target_BKhw.sum(dim=(2, 3)) > 0)

    def activate(self, output_BKhw: Tensor) -> Tensor:
        # A Gaussian of peak 1 has the mass 2 pi sigma^2.
        return output_BKhw.flatten(2).softmax(dim=2).view_as(output_BKhw) * (2 * math.pi * self.sigma**2)


@dataclass(frozen=True)
class MultiMSE(HeatmapLoss):
    """Squared error, as published, weighted by 1 + foreground * target."""

    foreground: float = 0.0

    def loss(self, output_BSKhw: Tensor, target_BKhw: Tensor, mask: Tensor) -> Tensor:
        target = target_BKhw[:, None].expand_as(output_BSKhw)
        weight = mask[:, None] * (1 + self.foreground * target)
        return (weight * (output_BSKhw - target).square()).mean()


@dataclass(frozen=True)
class MultiFocal(HeatmapLoss):
    """Of logits: |target - p|^gamma times cross-entropy, summed over cells (arXiv 2006.04388, equation 6).

    Weighted by 1 + foreground * target. Maps begin at a probability of 0.02 rather than one half, because
    nearly all cells are empty.
    """

    gamma: float = 1.0
    foreground: float = 0.0
    empty_bias: ClassVar[float | None] = -4.0

    def loss(self, output_BSKhw: Tensor, target_BKhw: Tensor, mask: Tensor) -> Tensor:
        target = target_BKhw[:, None].expand_as(output_BSKhw)
        entropy = F.binary_cross_entropy_with_logits(output_BSKhw, target, reduction="none")
        error = (target - output_BSKhw.sigmoid()).abs().pow(self.gamma) * entropy
        return (mask[:, None] * (1 + self.foreground * target) * error).sum(dim=(3, 4)).mean()

    def activate(self, output_BKhw: Tensor) -> Tensor:
        return output_BKhw.sigmoid()
