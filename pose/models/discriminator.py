"""The discriminator of self-adversarial training (arXiv 1707.02439).

Legend: B images, K joints, h w cells.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from pose.models.blocks import Residual, Stacked, residual_hourglass, residual_neck


class Discriminator(Stacked):
    """image_heatmap_BChw, an image and after it K heatmaps (C = 3 + K) -> repainted_BKhw, by the last stack.

    The pose network's hourglass, but its stem halves nothing: the image comes at the heatmaps' size, of which
    h and w must be multiples of 16. stem: channels of its convolution and of the two residuals after it (64,
    128, 128).
    """

    def __init__(self, *, joints: int, stacks: int, modules: int, features: int, stem: Sequence[int]):
        first, second, third = stem
        super().__init__(
            stem=nn.Sequential(
                nn.Conv2d(3 + joints, first, 3, padding=1),
                nn.BatchNorm2d(first),
                nn.ReLU(),
                Residual(first, second),
                Residual(second, third),
                Residual(third, features),
            ),
            hourglass=lambda: residual_hourglass(features, modules),
            neck=lambda: residual_neck(features, modules),
            stacks=stacks,
            features=features,
            outputs=joints,
        )

    def forward(self, image_heatmap_BChw: Tensor) -> Tensor:
        repainted_BSKhw: Tensor = super().forward(image_heatmap_BChw)
        return repainted_BSKhw[:, -1]
