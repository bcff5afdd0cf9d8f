"""Batches: what a network is shown (`Inputs`) apart from what it is taught (`Targets`).

Legend: B samples, P people, K joints, H W input px, h w heatmap cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


class TensorFields:
    """A dataclass of tensors (or tuples of them, or None), changed all at once."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A copy whose tensors are what `function` makes of them."""

        def apply(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(apply(one) for one in value)
            return function(value) if isinstance(value, Tensor) else value

        return replace(self, **{field.name: apply(getattr(self, field.name)) for field in fields(self)})  # type: ignore

    def pin_memory(self) -> Self:
        """For the loader: page-locked copies, which move to a GPU without waiting."""
        return self.map(Tensor.pin_memory)


@dataclass(frozen=True)
class Inputs(TensorFields):
    """What a network is shown.

    images: the batch at every size at which it is shown, the input's own first; (B, H, W, 3) uint8 RGB as
    loader workers send them (a quarter of the traffic of floats), (B, 3, H, W) floats 0 to 1 after `to`.
    affine_B23: image px -> input px of the first size, float64, on the CPU. gain_B3: colour gain of each
    channel, None for none.
    """

    images: tuple[Tensor, ...]
    affine_B23: Tensor
    gain_B3: Tensor | None = None

    @property
    def image_B3HW(self) -> Tensor:
        """The batch at the input's own size, after `to`."""
        return self.images[0]

    def to(self, device: torch.device) -> Inputs:
        """On the device, as floats, colour gain applied.

        Channels last in memory, since that is how images come.
        """

        def floats(image_BHW3: Tensor) -> Tensor:
            image = image_BHW3.to(device, non_blocking=True).float().div_(255)
            if self.gain_B3 is not None:
                image = image.mul_(self.gain_B3.to(device, non_blocking=True)[:, None, None, :]).clamp_(0, 1)
            return image.permute(0, 3, 1, 2)

        return Inputs(tuple(floats(image) for image in self.images), self.affine_B23)


@dataclass(frozen=True)
class SingleTargets(TensorFields):
    """What a single-person network is taught. mask_BK: 1 where the joint's map counts in the loss, else 0."""

    heatmap_BKhw: Tensor
    mask_BK: Tensor

    def to(self, device: torch.device) -> SingleTargets:
        """On the device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))


@dataclass(frozen=True)
class MultiTargets(TensorFields):
    """What a multi-person network is taught.

    mask_Bhw: 0 where the loss must not look (uint8 as loaded, float after `to`). cell_BPK: int64, the
    flattened cell (y * w + x) of each joint that has a target, -1 for none; P is that of the image with most
    people, at least 1.
    """

    heatmap_BKhw: Tensor
    mask_Bhw: Tensor
    cell_BPK: Tensor

    def to(self, device: torch.device) -> MultiTargets:
        """On the device."""
        moved = self.map(lambda tensor: tensor.to(device, non_blocking=True))
        return replace(moved, mask_Bhw=moved.mask_Bhw.float())


@dataclass(frozen=True)
class Batch(TensorFields):
    """Inputs, and targets where there is something to be taught."""

    inputs: Inputs
    targets: Any = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """A copy whose tensors are what `function` makes of them."""
        return Batch(self.inputs.map(function), self.targets and self.targets.map(function))

    def to(self, device: torch.device) -> Batch:
        """On the device, see `Inputs.to`."""
        return Batch(self.inputs.to(device), self.targets and self.targets.to(device))

    def __len__(self) -> int:
        return len(self.inputs.affine_B23)
