"""One image of the prepared COCO set -> what the multi-person network is shown and taught.

Legend: B images, P people, K joints, H W input px, h w heatmap cells, C output channels. The image enters as its whole-image square:
centred, its side the image's long side, black where the image ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pose.data.coco import CocoPeople
from pose.data.images import shrink
from pose.data.sample import crop
from pose.geometry import STRIDE, compose, crop_affine, invert, to_cell, transform
from pose.heatmap import encode_people
from pose.params import MultiAugmentParams, MultiParams
from pose.skeleton import COCO

INPUT_MULTIPLE = 64  # inputs of the hourglass have sides of whole multiples of it, px
# A large picture is first shrunk to this many times the size at which it is shown: a warp alone would skip pixels, two soften more.
OVERSAMPLING = 1.25


@dataclass(frozen=True)
class MultiAugment:
    """What is done to one image of many people.

    angle: degrees, counter-clockwise as seen. widen: the square's side is multiplied by this. shift: of the square's middle,
    as shares of its side, after widening. hue: degrees. saturation, contrast: factors. brightness: share of white.
    """

    angle: float = 0.0
    widen: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    flip: bool = False
    hue: float = 0.0
    saturation: float = 1.0
    brightness: float = 0.0
    contrast: float = 1.0

    @staticmethod
    def draw(rng: np.random.Generator, params: MultiAugmentParams) -> MultiAugment:
        """Draw from the distributions of the published recipe (arXiv 1611.05424 and its code); `params` says how wide they are."""

        def about(middle: float, spread: float) -> float:
            return float(rng.uniform(middle - spread, middle + spread))

        return MultiAugment(
            angle=about(0, params.rotation),
            widen=about(1, params.scale),
            shift=(about(0, params.shift), about(0, params.shift)),
            flip=bool(rng.random() < params.flip),
            hue=about(0, params.hue),
            saturation=about(1, params.saturation),
            brightness=about(0, params.brightness),
            contrast=about(1, params.contrast),
        )

    def recolour(self, picture_HW3: np.ndarray) -> np.ndarray:
        """The uint8 RGB picture with hue, saturation, brightness and contrast (about the picture's mean) changed, in this order."""
        if self.hue or self.saturation != 1:
            hsv_HW3 = cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2HSV)
            level = np.arange(256)
            hue = np.rint(level + self.hue / 2) % 180  # OpenCV counts hue in steps of two degrees
            table = np.stack([hue, np.clip(np.rint(level * self.saturation), 0, 255), level], axis=1).astype(np.uint8)
            picture_HW3 = cv2.cvtColor(cv2.LUT(hsv_HW3, table[None]), cv2.COLOR_HSV2RGB)
        if self.brightness or self.contrast != 1:
            mean = float(np.mean(cv2.mean(picture_HW3)[:3]))
            changed = (np.arange(256) - mean) * self.contrast + mean + 255 * self.brightness
            picture_HW3 = cv2.LUT(picture_HW3, np.clip(np.rint(changed), 0, 255).astype(np.uint8))
        return picture_HW3


@dataclass
class MultiBatch:
    """Samples side by side.

    mask_Bhw: 0 where the loss must not look, else 1. cell_BPK: int64, the flattened cell (y * w + x) of each joint that has a
    target, -1 for none; P is that of the image with most people, at least 1. affine_B23: image px -> input px. row_B: of the
    prepared set. others: the same images at further input sizes, and their affines; none in training.
    """

    image_B3HW: Tensor
    heatmap_BKhw: Tensor
    mask_Bhw: Tensor
    cell_BPK: Tensor
    affine_B23: Tensor
    row_B: Tensor
    others: tuple[tuple[Tensor, Tensor], ...] = ()

    @property
    def images(self) -> tuple[Tensor, ...]:
        """At every size at which they are shown, the input's own first."""
        return (self.image_B3HW, *(image for image, _ in self.others))

    def __len__(self) -> int:
        return len(self.row_B)


@dataclass(frozen=True)
class MultiSample:
    """One image, as plain arrays; names as in MultiBatch. Only people with a joint inside are in cell_PK."""

    image_HW3: np.ndarray
    heatmap_Khw: np.ndarray
    mask_hw: np.ndarray
    cell_PK: np.ndarray
    affine_23: np.ndarray
    row: int
    others: tuple[tuple[np.ndarray, np.ndarray], ...] = ()


@dataclass
class RawMultiBatch:
    """A batch as loader workers send it: pictures and masks as bytes, not floats."""

    image_BHW3: Tensor
    heatmap_BKhw: Tensor
    mask_Bhw: Tensor
    cell_BPK: Tensor
    affine_B23: Tensor
    row_B: Tensor
    others: tuple[tuple[Tensor, Tensor], ...]

    @staticmethod
    def of(samples: Sequence[MultiSample]) -> RawMultiBatch:
        """Stack samples, their people padded to the largest number."""

        def stack(arrays: Iterator[np.ndarray]) -> Tensor:
            return torch.from_numpy(np.stack(list(arrays)))

        people = max(1, *(len(sample.cell_PK) for sample in samples))
        sizes = range(len(samples[0].others))
        return RawMultiBatch(
            image_BHW3=stack(sample.image_HW3 for sample in samples),
            heatmap_BKhw=stack(sample.heatmap_Khw for sample in samples),
            mask_Bhw=stack(sample.mask_hw for sample in samples),
            cell_BPK=stack(np.pad(s.cell_PK, ((0, people - len(s.cell_PK)), (0, 0)), constant_values=-1) for s in samples),
            affine_B23=stack(sample.affine_23 for sample in samples),
            row_B=torch.tensor([sample.row for sample in samples]),
            others=tuple((stack(s.others[i][0] for s in samples), stack(s.others[i][1] for s in samples)) for i in sizes),
        )

    def pin_memory(self) -> RawMultiBatch:
        """For the loader: page-locked copies, which move to a GPU without waiting."""
        pinned = {field.name: getattr(self, field.name).pin_memory() for field in fields(self) if field.name != "others"}
        return RawMultiBatch(**pinned, others=tuple((image.pin_memory(), affine) for image, affine in self.others))

    def to(self, device: torch.device) -> MultiBatch:
        """On the device: floats 0 to 1. Channels last in memory, since that is how pictures come."""

        def picture(image_BHW3: Tensor) -> Tensor:
            return image_BHW3.to(device, non_blocking=True).float().div_(255).permute(0, 3, 1, 2)

        return MultiBatch(
            image_B3HW=picture(self.image_BHW3),
            heatmap_BKhw=self.heatmap_BKhw.to(device, non_blocking=True),
            mask_Bhw=self.mask_Bhw.to(device, non_blocking=True).float(),
            cell_BPK=self.cell_BPK.to(device, non_blocking=True),
            affine_B23=self.affine_B23,
            row_B=self.row_B,
            others=tuple((picture(image), affine) for image, affine in self.others),
        )


def input_size(size: int, scale: float) -> int:
    """Side of the input at a scale of multi-scale inference, px, rounded up to what the hourglass takes."""
    return int(np.ceil(round(size * scale / INPUT_MULTIPLE, 6))) * INPUT_MULTIPLE  # rounded: 640 * 0.7 is a hair off 448


def further_sizes(size: int, scales: Sequence[float]) -> list[int]:
    """Sides of the inputs at further scales, px, each once: a scale may round up to another's size, or to `size` itself."""
    return sorted({input_size(size, scale) for scale in scales} - {size})


def image_affine(size_wh: np.ndarray, size: int, augment: MultiAugment | None = None) -> np.ndarray:
    """Affine from image px to the input px of a square of `size` px that shows the whole image, or what `augment` leaves of it.

    size_wh: width and height of the image, px.
    """
    augment = augment or MultiAugment()
    wh = np.asarray(size_wh, dtype=np.float64)
    side = wh.max() * augment.widen
    return crop_affine((wh - 1) / 2 + np.array(augment.shift) * side, side, size, angle=augment.angle, flip=augment.flip)


def show(picture_HW3: np.ndarray, affine: np.ndarray, size: int, augment: MultiAugment | None = None) -> np.ndarray:
    """The square of `size` px that `affine` (picture px -> input px) shows, in the colours of `augment`, black outside the picture.

    A large picture is made smaller first, so that all its pixels count. Colours change before the black is added: it stays black.
    """
    zoom = np.sqrt(abs(np.linalg.det(affine[:, :2])))
    small_HW3, small_affine = shrink(picture_HW3, OVERSAMPLING * zoom)
    if augment is not None:
        small_HW3 = augment.recolour(small_HW3)
    return crop(small_HW3, compose(affine, invert(small_affine)), size)


def letterbox(picture_HW3: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture as the network sees it in use, (size, size, 3), and the affine (2, 3) from picture px to it."""
    affine = image_affine(np.array(picture_HW3.shape[1::-1]), size)
    return show(picture_HW3, affine, size), affine


def image_sample(
    people: CocoPeople, row: int, params: MultiParams, augment: MultiAugment | None = None, *, scales: Sequence[float] = ()
) -> MultiSample:
    """One image of the prepared set under one augmentation: a single affine moves image, mask and joints.

    scales: further sizes, as factors of `params.input`, at which to show the image.
    """
    augment = augment or MultiAugment()
    affine = image_affine(people.image_size_I2[row], params.input, augment)
    picture_HW3, packed_affine = people.picture(row)

    def shown(to_input: np.ndarray, size: int) -> np.ndarray:
        return show(picture_HW3, compose(to_input, invert(packed_affine)), size, augment)

    others = []
    for other in further_sizes(params.input, scales):
        other_affine = image_affine(people.image_size_I2[row], other, augment)
        others.append((shown(other_affine, other), other_affine))
    cells = params.input // STRIDE
    joint_PK2, labelled_PK = people.joints(row)
    joint_xy_cell = to_cell(transform(affine, joint_PK2))
    if augment.flip:
        joint_xy_cell, labelled_PK = joint_xy_cell[:, COCO.flip_index], labelled_PK[:, COCO.flip_index]
    heatmap_Khw, cell_PK = encode_people(joint_xy_cell, labelled_PK, size=cells, sigma=params.sigma, target=params.target)
    return MultiSample(
        image_HW3=shown(affine, params.input),
        heatmap_Khw=heatmap_Khw,
        mask_hw=_mask(people.mask(row), affine, cells),
        cell_PK=cell_PK[(cell_PK >= 0).any(axis=1)][: params.people],
        affine_23=affine,
        row=row,
        others=tuple(others),
    )


class ImageDataset(Dataset[MultiSample]):
    """Samples of some rows of a prepared set.

    Indexed by (epoch, position): the draw of a sample depends on (seed, epoch, row) and nothing else, so neither the number of
    workers nor a restart changes what a sample looks like. `augment=False` shows every image whole, upright and unaltered.
    scales: further sizes at which to show it, see `image_sample`.
    """

    def __init__(
        self, people: CocoPeople, rows: np.ndarray, params: MultiParams, *, seed: int, augment: bool, scales: Sequence[float] = ()
    ) -> None:
        self.people, self.rows, self.params, self.seed, self.augment, self.scales = people, rows, params, seed, augment, scales

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> RawMultiBatch:
        """A whole batch at once, which is how torch's loader asks for one where a data set can do that."""
        return RawMultiBatch.of([self[key] for key in keys])

    def __getitem__(self, key: tuple[int, int]) -> MultiSample:
        epoch, position = key
        row = int(self.rows[position])
        augment = MultiAugment()
        if self.augment:
            augment = MultiAugment.draw(np.random.default_rng([self.seed, epoch, row]), self.params.augment)
        return image_sample(self.people, row, self.params, augment, scales=self.scales)


def _mask(mask_HW: np.ndarray | None, affine: np.ndarray, cells: int) -> np.ndarray:
    """(h, w) uint8: the image's mask under `affine` (image px -> input px), the nearest pixel for each cell; 1 outside the image."""
    if mask_HW is None:
        return np.ones((cells, cells), dtype=np.uint8)
    to_cells = np.column_stack([affine[:, :2] / STRIDE, to_cell(affine[:, 2])])
    flags = cv2.INTER_NEAREST
    size = (cells, cells)
    return cv2.warpAffine(mask_HW.astype(np.uint8), to_cells, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=1.0)
