"""The pose networks that `tasks.*.network` in params.yaml can name: one class of parameters each.

A new network is a file beside this one and a class here, added to `NetworkParams`. This module does not
import torch, so that parameters can be read without it. Every network maps image_B3HW to output_BSChw with
h = H / 4: S stacks of C channels, all of them supervised, the last one being the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pose.io.errors import UserError
from pose.io.schema import Frozen

if TYPE_CHECKING:
    from pose.models.blocks import PoseNetwork

# Limits far above any use, because a file can ask for a network of terabytes.
Channels = Annotated[int, Field(ge=1, le=1024)]
EvenChannels = Annotated[int, Field(ge=2, le=1024, multiple_of=2)]
Layers = Annotated[int, Field(ge=1, le=32)]
Stem = Annotated[list[EvenChannels], Field(min_length=3, max_length=3)]


class HourglassParams(Frozen):
    """The stacked hourglass of residual modules (arXiv 1603.06937).

    stacks: hourglasses in a row. modules: residual modules at each place of an hourglass. features: channels
    within. stem: channels before the first hourglass; three as published, two for strided convolutions.
    """

    kind: Literal["hourglass"]
    stacks: Layers
    modules: Layers
    features: Annotated[int, Field(ge=4, le=1024, multiple_of=4)]
    stem: Annotated[list[EvenChannels], Field(min_length=2, max_length=3)]

    def build(self, outputs: int) -> PoseNetwork:
        """The network, with this many output channels."""
        from pose.models.hourglass import StackedHourglass

        return StackedHourglass(outputs=outputs, **self.model_dump(exclude={"kind"}))

    def __str__(self) -> str:
        return f"stacked hourglass of {self.stacks} × {self.modules}, {self.features} features"


class DiscriminatorParams(HourglassParams):
    """The hourglass of an adversary, whose stem has one form only and does not reduce the size."""

    stem: Stem


class AEHourglassParams(Frozen):
    """The hourglass of plain convolutions of associative embedding (arXiv 1611.05424).

    increase: channels that each smaller scale has more. outputs: channels, of which the first ones are used;
    the published networks have 68.
    """

    kind: Literal["ae"]
    stacks: Layers
    features: Channels
    increase: Annotated[int, Field(ge=0, le=256)]
    outputs: Channels
    stem: Stem

    def build(self, outputs: int) -> PoseNetwork:
        """The network; UserError if it has fewer output channels than asked for."""
        from pose.models.ae_hourglass import AEHourglass

        if self.outputs < outputs:
            expected = f"expected at least the {outputs} channels needed"
            raise UserError(f"network.outputs: found {self.outputs}, {expected}")
        return AEHourglass(**self.model_dump(exclude={"kind"}))

    def __str__(self) -> str:
        size = f"{self.stacks}, {self.features} features, {self.increase} more a level"
        return f"associative-embedding hourglass of {size}"


class SimpleBaselineParams(Frozen):
    """The simple baseline (arXiv 1804.06208): a residual encoder, then transposed convolutions.

    stem: channels of the first convolution. widths: channels of the encoder's stages, each half the size of
    the one before. blocks: residual blocks in each stage. upsampled: channels of the transposed convolutions.
    """

    kind: Literal["simple_baseline"]
    stem: EvenChannels
    widths: Annotated[list[EvenChannels], Field(min_length=2, max_length=5)]
    blocks: Layers
    upsampled: EvenChannels

    def build(self, outputs: int) -> PoseNetwork:
        """The network, with this many output channels."""
        from pose.models.simple_baseline import SimpleBaseline

        return SimpleBaseline(outputs=outputs, **self.model_dump(exclude={"kind"}))

    def __str__(self) -> str:
        widths = ", ".join(map(str, self.widths))
        return f"simple baseline of {len(self.widths)} stages ({widths} channels), {self.blocks} blocks each"


NetworkParams = Annotated[
    HourglassParams | AEHourglassParams | SimpleBaselineParams, Field(discriminator="kind")
]
