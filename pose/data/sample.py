"""One person of the prepared set -> what the single-person network is shown and taught.

Legend: B people, K joints, H W input px, h w heatmap cells. Colour gain, conversion to float and the order of the channels are left
to the batch (`Batch.to`), which does them for all images at once and on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pose.data.augment import Augment
from pose.data.lsp_mpii import FEET_SHIFT, LspMpii
from pose.geometry import STRIDE, compose, crop_affine, invert, to_cell, transform
from pose.heatmap import encode
from pose.params import SingleParams
from pose.skeleton import MPII

PERSON_PX = 200  # `scale` of a person is their height over this many pixels


@dataclass
class Batch:
    """Samples side by side.

    affine_B23: image px -> input px. mask_BK: 1 where the joint's map counts in the loss. row_B: of the prepared set.
    """

    image_B3HW: Tensor
    heatmap_BKhw: Tensor
    mask_BK: Tensor
    affine_B23: Tensor
    row_B: Tensor

    @property
    def images(self) -> tuple[Tensor, ...]:
        """At every size at which they are shown: one."""
        return (self.image_B3HW,)

    def __len__(self) -> int:
        return len(self.row_B)


@dataclass(frozen=True)
class Sample:
    """One person, as plain arrays: image_HW3 uint8 RGB, gain_3, heatmap_Khw, mask_K, affine_23 (image px -> input px), row."""

    image_HW3: np.ndarray
    gain_3: np.ndarray
    heatmap_Khw: np.ndarray
    mask_K: np.ndarray
    affine_23: np.ndarray
    row: int


@dataclass
class RawBatch:
    """A batch as loader workers send it: bytes, not floats (a quarter of the traffic)."""

    image_BHW3: Tensor
    gain_B3: Tensor
    heatmap_BKhw: Tensor
    mask_BK: Tensor
    affine_B23: Tensor
    row_B: Tensor

    @staticmethod
    def of(samples: Sequence[Sample]) -> RawBatch:
        """Stack samples."""

        def stack(name: str) -> Tensor:
            return torch.from_numpy(np.stack([getattr(sample, name) for sample in samples]))

        return RawBatch(
            image_BHW3=stack("image_HW3"),
            gain_B3=stack("gain_3"),
            heatmap_BKhw=stack("heatmap_Khw"),
            mask_BK=stack("mask_K"),
            affine_B23=stack("affine_23"),
            row_B=torch.tensor([sample.row for sample in samples]),
        )

    def __getitem__(self, number: int) -> Sample:
        """One of them, as plain arrays."""
        return Sample(
            image_HW3=self.image_BHW3[number].numpy(),
            gain_3=self.gain_B3[number].numpy(),
            heatmap_Khw=self.heatmap_BKhw[number].numpy(),
            mask_K=self.mask_BK[number].numpy(),
            affine_23=self.affine_B23[number].numpy(),
            row=int(self.row_B[number]),
        )

    def pin_memory(self) -> RawBatch:
        """For the loader: page-locked copies, which move to a GPU without waiting."""
        return RawBatch(**{field.name: getattr(self, field.name).pin_memory() for field in fields(self)})

    def to(self, device: torch.device) -> Batch:
        """On the device: floats 0 to 1, colour gain applied. Channels last in memory, since that is how pictures come."""
        image = self.image_BHW3.to(device, non_blocking=True).float().div_(255)
        image = image.mul_(self.gain_B3.to(device, non_blocking=True)[:, None, None, :]).clamp_(0, 1)
        return Batch(
            image_B3HW=image.permute(0, 3, 1, 2),
            heatmap_BKhw=self.heatmap_BKhw.to(device, non_blocking=True),
            mask_BK=self.mask_BK.to(device, non_blocking=True),
            affine_B23=self.affine_B23,
            row_B=self.row_B,
        )


def person_affine(
    centre_xy: np.ndarray, scale: float, *, params: SingleParams, augment: Augment | None = None, feet: bool = False
) -> np.ndarray:
    """Affine from image px to the network's input px for a person at `centre_xy` (image px), `scale` * 200 px tall.

    feet: MPII's centre is the middle of the body without the feet; published code moves it down by 15 * scale px.
    """
    augment = augment or Augment()
    centre = centre_xy + np.array([0, FEET_SHIFT * scale]) if feet else centre_xy
    side = PERSON_PX * scale * params.crop * augment.widen
    return crop_affine(centre, side, params.input, angle=augment.angle, flip=augment.flip)


def crop(picture_HW3: np.ndarray, affine_23: np.ndarray, size: int, *, out: np.ndarray | None = None) -> np.ndarray:
    """The square of `size` px that `affine_23` (picture px -> crop px) shows, black outside the picture. out: where to put it."""
    flags = cv2.INTER_LINEAR
    return cv2.warpAffine(picture_HW3, affine_23, (size, size), dst=out, flags=flags, borderMode=cv2.BORDER_CONSTANT)


class PersonDataset(Dataset[Sample]):
    """Samples of some rows of a prepared set.

    Indexed by (epoch, position): the draw of a sample depends on (seed, epoch, row) and nothing else, so neither the number of
    workers nor a restart changes what a sample looks like. `augment=False` shows every person upright, centred and unaltered.
    """

    def __init__(self, people: LspMpii, rows: np.ndarray, params: SingleParams, *, seed: int, augment: bool):
        self.people, self.rows, self.params, self.seed, self.augment = people, rows, params, seed, augment

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> RawBatch:
        """A whole batch at once, which is how torch's loader asks for one where a data set can do that."""
        rows = self.rows[[position for _, position in keys]]
        augments = [Augment()] * len(keys)
        if self.augment:
            seeds = [[self.seed, epoch, row] for (epoch, _), row in zip(keys, rows.tolist(), strict=True)]
            augments = [Augment.draw(np.random.default_rng(seed), self.params.augment) for seed in seeds]
        return person_batch(self.people, rows, self.params, augments)


def person_sample(people: LspMpii, row: int, params: SingleParams, augment: Augment) -> Sample:
    """One row of the prepared set under one augmentation."""
    return person_batch(people, np.array([row]), params, [augment])[0]


def person_batch(people: LspMpii, row_B: np.ndarray, params: SingleParams, augments: Sequence[Augment]) -> RawBatch:
    """Rows of the prepared set, each under its augmentation: a single affine moves pixels and joints.

    Step by step for all people, not person by person: a step's code is then still in the processor's caches, which makes the small
    ones two to three times faster, and arithmetic is done for all joints of the batch at once.
    """
    size, joints = params.input, len(MPII)
    placed = zip(people.centre_N2[row_B], people.scale_N[row_B].tolist(), augments, people.source_N[row_B] == "mpii", strict=True)
    affines = [person_affine(centre, scale, params=params, augment=augment, feet=feet) for centre, scale, augment, feet in placed]

    image_BHW3 = np.empty((len(row_B), size, size, 3), dtype=np.uint8)
    for (picture, packed_affine), affine, image in zip(people.pictures(row_B), affines, image_BHW3, strict=True):
        crop(picture, compose(affine, invert(packed_affine)), size, out=image)

    joint_BK2 = np.stack([transform(affine, joint) for affine, joint in zip(affines, people.joint_NK2[row_B], strict=True)])
    labelled_BK = people.labelled_NK[row_B]
    flipped_B = np.array([augment.flip for augment in augments])
    joint_BK2[flipped_B] = joint_BK2[flipped_B][:, MPII.flip_index]
    labelled_BK[flipped_B] = labelled_BK[flipped_B][:, MPII.flip_index]
    cells = size // STRIDE
    heatmap, _ = encode(to_cell(joint_BK2).reshape(-1, 2), labelled_BK.reshape(-1), size=cells, sigma=params.sigma, target=params.target)
    mask_BK = labelled_BK if params.unlabelled == "ignore" else np.ones_like(labelled_BK)
    return RawBatch(
        image_BHW3=torch.from_numpy(image_BHW3),
        gain_B3=torch.tensor([augment.gain for augment in augments]),
        heatmap_BKhw=torch.from_numpy(heatmap.reshape(-1, joints, cells, cells)),
        mask_BK=torch.from_numpy(mask_BK.astype(np.float32)),
        affine_B23=torch.from_numpy(np.stack(affines)),
        row_B=torch.from_numpy(row_B.astype(np.int64)),
    )
