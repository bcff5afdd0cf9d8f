"""The stacked hourglass (arXiv 1603.06937, figures 3 and 4). Legend: B images, S stacks, K joints, H W px, h w cells."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pose.nets.blocks import Residual, Stacked, residual_hourglass, residual_neck


class StackedHourglass(Stacked):
    """image_B3HW -> output_BSKhw, h = H / 4. H and W must be multiples of 64: two halvings in the stem, four in an hourglass.

    stem: channels of the first convolution and of the two residuals after it; the paper's are 64, 128, 128. They work at a half
    and a quarter of the input's size, where most of a small network's time goes: narrow ones make it several times faster.
    """

    def __init__(self, *, joints: int, stacks: int, modules: int, features: int, stem: Sequence[int]):
        first, second, third = stem
        super().__init__(
            stem=nn.Sequential(
                nn.Conv2d(3, first, 7, stride=2, padding=3),
                nn.BatchNorm2d(first),
                nn.ReLU(),
                Residual(first, second),
                nn.MaxPool2d(2),
                Residual(second, third),
                Residual(third, features),
            ),
            hourglass=lambda: residual_hourglass(features, modules),
            neck=lambda: residual_neck(features, modules),
            stacks=stacks,
            features=features,
            outputs=joints,
        )
