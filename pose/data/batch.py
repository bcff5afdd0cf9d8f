"""Batches: `Inputs` go through a network, `Targets` are what its loss compares the output with.

Legend: B samples, P people, K joints, H W input px, h w heatmap cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor


class TensorFields:
    """A dataclass of tensors, tuples of tensors, other such dataclasses, or None."""

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A copy with `function` applied to every tensor."""

        def apply(value: Any) -> Any:
            if isinstance(value, TensorFields):
                return value.map(function)
            if isinstance(value, tuple):
                return tuple(apply(one) for one in value)
            return function(value) if isinstance(value, Tensor) else value

        return replace(self, **{field.name: apply(getattr(self, field.name)) for field in fields(self)})  # type: ignore

    def to(self, device: torch.device) -> Self:
        """On the device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Page-locked copies, which the loader makes so that they move to a GPU without waiting."""
        return self.map(Tensor.pin_memory)


@dataclass(frozen=True)
class Inputs(TensorFields):
    """Images for a network.

    images: the batch at every size to be tested, the input's own size first; (B, H, W, 3) uint8 RGB as loader
    workers send them (a quarter of the traffic of floats), (B, 3, H, W) floats 0 to 1 after `to`. zooms: how
    many times as large as the first each of the images shows everything, around the same middle, in the same
    number of px; empty where none does.
    affine_B23: image px -> input px of the first size, float64, on the CPU. gain_B3: colour gain of each
    channel, None for none.
    """

    images: tuple[Tensor, ...]
    affine_B23: Tensor
    gain_B3: Tensor | None = None
    zooms: tuple[float, ...] = ()

    @property
    def image_B3HW(self) -> Tensor:
        """The batch at the input's own size, after `to`."""
        return self.images[0]

    def to(self, device: torch.device) -> Self:
        """On the device as floats, colour gain applied, channels last in memory as the images come."""

        def floats(image_BHW3: Tensor) -> Tensor:
            image = image_BHW3.to(device, non_blocking=True).float().div_(255)
            if self.gain_B3 is not None:
                image = image.mul_(self.gain_B3.to(device, non_blocking=True)[:, None, None, :]).clamp_(0, 1)
            return image.permute(0, 3, 1, 2)

        return replace(self, images=tuple(floats(image) for image in self.images), gain_B3=None)


@dataclass(frozen=True)
class SingleTargets(TensorFields):
    """Targets of a single-person network. mask_BK: 1 where the joint's map counts in the loss, else 0."""

    heatmap_BKhw: Tensor
    mask_BK: Tensor


@dataclass(frozen=True)
class MultiTargets(TensorFields):
    """Targets of a multi-person network.

    mask_Bhw: 0 where the loss must not look (uint8 as loaded, float after `to`). cell_BPK: int64, the
    flattened cell (y * w + x) of each joint that has a target, -1 for none; P is that of the image with most
    people, at least 1. has_joint_BK: uint8, 0 for the joints that the image's source does not label, where an
    empty map would be wrong; None if there are none such.
    """

    heatmap_BKhw: Tensor
    mask_Bhw: Tensor
    cell_BPK: Tensor
    has_joint_BK: Tensor | None = None

    @property
    def mask_BKhw(self) -> Tensor:
        """mask_Bhw of each joint; (B, 1, h, w) if it is the same for all of them."""
        mask_B1hw = self.mask_Bhw[:, None]
        return mask_B1hw if self.has_joint_BK is None else mask_B1hw * self.has_joint_BK[..., None, None]

    def to(self, device: torch.device) -> Self:
        """On the device, the mask as floats."""
        moved = super().to(device)
        return replace(moved, mask_Bhw=moved.mask_Bhw.float())


@dataclass(frozen=True)
class Batch(TensorFields):
    """Inputs, and targets in training."""

    inputs: Inputs
    targets: Any = None

    def to(self, device: torch.device) -> Self:
        """On the device, see `Inputs.to`."""
        return replace(self, inputs=self.inputs.to(device), targets=self.targets and self.targets.to(device))

    def __len__(self) -> int:
        return len(self.inputs.affine_B23)
