"""The stacked hourglass of associative embedding (arXiv 1611.05424).

Legend: B images, S stacks, C channels, H W px, h w cells.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pose.models.blocks import DEPTH, Hourglass, Stacked, conv_relu


class AEHourglass(Stacked):
    """image_B3HW -> output_BSChw, h = H / 4. H and W are multiples of 64.

    Convolutions and ReLU only, without normalisation. outputs: C; the published networks have 68 channels and
    use the first 34. features: channels of an hourglass at its largest scale (paper: 256); each smaller scale
    has `increase` more (128). stem: channels of the first three convolutions (64, 128, 128).
    """

    def __init__(self, *, outputs: int, stacks: int, features: int, increase: int, stem: Sequence[int]):
        first, second, third = stem
        super().__init__(
            stem=nn.Sequential(
                conv_relu(3, first, size=7, stride=2),
                conv_relu(first, second),
                nn.MaxPool2d(2),
                conv_relu(second, third),
                conv_relu(third, features),
            ),
            hourglass=lambda: widening_hourglass(features, increase),
            neck=lambda: nn.Sequential(conv_relu(features, features), conv_relu(features, features)),
            stacks=stacks,
            features=features,
            outputs=outputs,
        )


def widening_hourglass(features: int, increase: int, depth: int = DEPTH) -> Hourglass:
    """An hourglass of single convolutions, with `increase` channels more at every smaller scale."""
    wider = features + increase
    return Hourglass(
        skip=conv_relu(features, features),
        before=conv_relu(features, wider),
        inner=widening_hourglass(wider, increase, depth - 1) if depth > 1 else conv_relu(wider, wider),
        after=conv_relu(wider, features),
    )
