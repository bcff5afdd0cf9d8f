"""The stacked hourglass (arXiv 1603.06937, figures 3 and 4).

Legend: B images, S stacks, C channels, H W px, h w cells.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pose.models.blocks import Residual, Stacked, residual_hourglass, residual_neck
from pose.models.sync_norm import BatchNorm2d


class StackedHourglass(Stacked):
    """image_B3HW -> output_BSChw, h = H / 4. H and W are multiples of 64, as they are halved six times.

    stem: its channels. Three: the published one, a convolution and two residuals (paper: 64, 128, 128), most
    of it at half of the input's size, where a small network spends nearly half of its time. Two: two 3x3
    convolutions of stride 2 (as in arXiv 1908.07919, section 3) and one residual at a quarter of the size.
    """

    def __init__(self, *, outputs: int, stacks: int, modules: int, features: int, stem: Sequence[int]):
        super().__init__(
            stem=published_stem(stem, features) if len(stem) == 3 else strided_stem(stem, features),
            hourglass=lambda: residual_hourglass(features, modules),
            neck=lambda: residual_neck(features, modules),
            stacks=stacks,
            features=features,
            outputs=outputs,
        )


def published_stem(stem: Sequence[int], features: int) -> nn.Sequential:
    """A 7x7 convolution of stride 2, then residuals and max-pooling (arXiv 1603.06937, section 3.2)."""
    first, second, third = stem
    return nn.Sequential(
        nn.Conv2d(3, first, 7, stride=2, padding=3),
        BatchNorm2d(first),
        nn.ReLU(inplace=True),
        Residual(first, second),
        nn.MaxPool2d(2),
        Residual(second, third),
        Residual(third, features),
    )


def strided_stem(stem: Sequence[int], features: int) -> nn.Sequential:
    """Two 3x3 convolutions of stride 2, then a residual; it is pre-activated, so the second needs no norm."""
    first, second = stem
    return nn.Sequential(
        nn.Conv2d(3, first, 3, stride=2, padding=1),
        BatchNorm2d(first),
        nn.ReLU(inplace=True),
        nn.Conv2d(first, second, 3, stride=2, padding=1),
        Residual(second, features),
    )
