"""The discriminator of self-adversarial training (arXiv 1707.02439). B images, K joints, h w cells."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pose.models.blocks import Residual, Stacked, residual_hourglass, residual_neck
from pose.models.sync_norm import BatchNorm2d


class Discriminator(Stacked):
    """image_heatmap_BChw, an image and K heatmaps (C = 3 + K) -> reconstructed_BKhw.

    The hourglass of the pose network, but its stem keeps the size: the image comes at the heatmaps' size, h
    and w being multiples of 16. stem: channels of its convolution and first two residuals (64, 128, 128).
    """

    def __init__(self, *, outputs: int, stacks: int, modules: int, features: int, stem: Sequence[int]):
        first, second, third = stem
        super().__init__(
            stem=nn.Sequential(
                nn.Conv2d(3 + outputs, first, 3, padding=1),
                BatchNorm2d(first),
                nn.ReLU(),
                Residual(first, second),
                Residual(second, third),
                Residual(third, features),
            ),
            hourglass=lambda: residual_hourglass(features, modules),
            neck=lambda: residual_neck(features, modules),
            stacks=stacks,
            features=features,
            outputs=outputs,
        )

    def forward(self, image_heatmap_BChw: Tensor) -> Tensor:
        reconstructed_BSKhw: Tensor = super().forward(image_heatmap_BChw)
        return reconstructed_BSKhw[:, -1]
