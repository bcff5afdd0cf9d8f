"""The stacked hourglass (arXiv 1603.06937, figures 3 and 4). Legend: B images, S stacks, K joints, H W px, h w cells."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pose.nets.blocks import Residual, Stacked, residual_hourglass, residual_neck


class StackedHourglass(Stacked):
    """image_B3HW -> output_BSKhw, h = H / 4. H and W must be multiples of 64: two halvings in the stem, four in an hourglass.

    stem: its channels. Three are those of the published one, a convolution and two residuals after it (the paper's: 64, 128, 128).
    Most of them work at half of the input's size, where a small network spends nearly half of its time. Two are those of two
    convolutions of stride 2, each 3x3 (as in arXiv 1908.07919, section 3), and one residual at a quarter of the size.
    """

    def __init__(self, *, joints: int, stacks: int, modules: int, features: int, stem: Sequence[int]):
        super().__init__(
            stem=published_stem(stem, features) if len(stem) == 3 else strided_stem(stem, features),
            hourglass=lambda: residual_hourglass(features, modules),
            neck=lambda: residual_neck(features, modules),
            stacks=stacks,
            features=features,
            outputs=joints,
        )


def published_stem(stem: Sequence[int], features: int) -> nn.Sequential:
    """A 7x7 convolution of stride 2, residuals, a max-pooling between them (arXiv 1603.06937, section 3.2)."""
    first, second, third = stem
    return nn.Sequential(
        nn.Conv2d(3, first, 7, stride=2, padding=3),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        Residual(first, second),
        nn.MaxPool2d(2),
        Residual(second, third),
        Residual(third, features),
    )


def strided_stem(stem: Sequence[int], features: int) -> nn.Sequential:
    """Two 3x3 convolutions of stride 2, then a residual, which is of the pre-activated kind: the second has no norm of its own."""
    first, second = stem
    return nn.Sequential(
        nn.Conv2d(3, first, 3, stride=2, padding=1),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, stride=2, padding=1),
        Residual(second, features),
    )
