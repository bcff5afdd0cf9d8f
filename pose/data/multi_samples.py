"""One image of a prepared set -> what the multi-person network is shown and taught.

Legend: B images, P people, K joints, H W input px, h w heatmap cells. The image enters as its whole-image
square: centred, its side the image's long side, black where the image ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from pose.data.augment import MultiAugment
from pose.data.batch import Batch, Inputs, MultiTargets
from pose.data.image_set import ImageSet
from pose.data.loader import SampleKey
from pose.data.single_samples import crop
from pose.io.images import shrink
from pose.keypoints.geometry import STRIDE, compose, crop_affine, invert, to_cell, transform
from pose.keypoints.heatmap import encode_people
from pose.params import MultiInferenceParams, MultiParams

INPUT_MULTIPLE = 64  # inputs have sides of whole multiples of it, px
# A large image is first shrunk to this many times the size at which it is shown: a warp alone would skip
# pixels.
OVERSAMPLING = 1.25


def further_sizes(size: int, scales: Sequence[float]) -> list[int]:
    """Sides of the inputs at further scales, px, rounded up to INPUT_MULTIPLE, each once and without `size` itself."""
    sides = (
        round(size * scale / INPUT_MULTIPLE, 6) for scale in scales
    )  # rounded: 640 * 0.7 is a hair off 448
    return sorted({int(np.ceil(side)) * INPUT_MULTIPLE for side in sides} - {size})


def image_affine(size_wh: np.ndarray, size: int, augment: MultiAugment | None = None) -> np.ndarray:
    """Affine from image px to the input px of a square of `size` px that shows the whole image, or its augmentation.

    size_wh: width and height of the image, px.
    """
    augment = augment or MultiAugment()
    wh = np.asarray(size_wh, dtype=np.float64)
    side = wh.max() * augment.widen
    centre_xy = (wh - 1) / 2 + np.array(augment.shift) * side
    return crop_affine(centre_xy, side, size, angle=augment.angle, flip=augment.flip)


def warp(
    image_HW3: np.ndarray, affine: np.ndarray, size: int, augment: MultiAugment | None = None
) -> np.ndarray:
    """The square of `size` px that `affine` (image px -> input px) shows, in the colours of `augment`, black outside.

    Colours change before the black is added: it stays black.
    """
    zoom = np.sqrt(abs(np.linalg.det(affine[:, :2])))
    small_HW3, small_affine = shrink(image_HW3, OVERSAMPLING * zoom)
    if augment is not None:
        small_HW3 = augment.recolour(small_HW3)
    return crop(small_HW3, compose(affine, invert(small_affine)), size)


def letterbox(image_HW3: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An image as the network sees it in use, (size, size, 3), and the affine (2, 3) from image px to it."""
    affine = image_affine(np.array(image_HW3.shape[1::-1]), size)
    return warp(image_HW3, affine, size), affine


def letterbox_inputs(
    images: Sequence[np.ndarray], params: MultiInferenceParams, scales: Sequence[float]
) -> Inputs:
    """A user's own images, (H, W, 3) uint8 RGB each, also shown at further scales."""
    sizes = [params.input_size, *further_sizes(params.input_size, scales)]
    shown = [[letterbox(image, size) for image in images] for size in sizes]
    return Inputs(
        images=tuple(torch.from_numpy(np.stack([image for image, _ in some])) for some in shown),
        affine_B23=torch.from_numpy(np.stack([affine for _, affine in shown[0]])),
    )


def image_inputs(
    people: ImageSet,
    row_B: np.ndarray,
    params: MultiInferenceParams,
    augments: Sequence[MultiAugment],
    scales: Sequence[float] = (),
) -> Inputs:
    """Images of a prepared set, each under its augmentation.

    Scales: further sizes, as factors of `input_size`.
    """
    sizes = [params.input_size, *further_sizes(params.input_size, scales)]
    shown: list[list[np.ndarray]] = [[] for _ in sizes]
    affines = []
    for row, augment in zip(row_B.tolist(), augments, strict=True):
        image_HW3, packed_affine = people.image(row)
        for size, some in zip(sizes, shown, strict=True):
            affine = image_affine(people.image_size_I2[row], size, augment)
            some.append(warp(image_HW3, compose(affine, invert(packed_affine)), size, augment))
            if size == params.input_size:
                affines.append(affine)
    return Inputs(
        images=tuple(torch.from_numpy(np.stack(some)) for some in shown),
        affine_B23=torch.from_numpy(np.stack(affines)),
    )


def image_targets(
    people: ImageSet,
    row_B: np.ndarray,
    params: MultiParams,
    augments: Sequence[MultiAugment],
    affine_B23: np.ndarray,
) -> MultiTargets:
    """The targets of those images; affine_B23.

    Image px -> input px, by which joints and mask move as the pixels did.
    """
    cells, flip_index = params.input_size // STRIDE, people.skeleton.flip_index
    heatmaps, masks, places = [], [], []
    for row, augment, affine in zip(row_B.tolist(), augments, affine_B23, strict=True):
        joint_PK2, labelled_PK = people.joints(row)
        joint_xy_cell = to_cell(transform(affine, joint_PK2))
        if augment.flip:
            joint_xy_cell, labelled_PK = joint_xy_cell[:, flip_index], labelled_PK[:, flip_index]
        heatmap_Khw, cell_PK = encode_people(
            joint_xy_cell, labelled_PK, size=cells, sigma=params.sigma, target=params.target
        )
        heatmaps.append(heatmap_Khw)
        masks.append(_mask(people.mask(row), affine, cells))
        places.append(cell_PK[(cell_PK >= 0).any(axis=1)][: params.people])  # people with a joint inside
    most = max(1, *map(len, places))
    padded = [np.pad(cell_PK, ((0, most - len(cell_PK)), (0, 0)), constant_values=-1) for cell_PK in places]
    return MultiTargets(*(torch.from_numpy(np.stack(arrays)) for arrays in (heatmaps, masks, padded)))


class ImageDataset(Dataset[Batch]):
    """Batches of some rows of a prepared set, to train on or, without a seed, to predict.

    Indexed by (epoch, position): the draw of a sample depends on (seed, epoch, row) and nothing else, so
    neither the number of workers nor a restart changes what a sample looks like. seed: None for inference:
    every image whole, upright and unaltered, and no targets. scales: see `image_inputs`.
    """

    def __init__(
        self,
        people: ImageSet,
        rows: np.ndarray,
        params: MultiInferenceParams,
        *,
        seed: int | None = None,
        scales: Sequence[float] = (),
    ):
        self.people, self.rows, self.params, self.seed, self.scales = people, rows, params, seed, scales

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: SampleKey) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[SampleKey]) -> Batch:
        """A whole batch at once, which is how torch's loader asks for one where a data set can do that."""
        rows = self.rows[[position for _, position in keys]]
        if self.seed is None:
            return Batch(
                image_inputs(self.people, rows, self.params, [MultiAugment()] * len(keys), self.scales)
            )
        assert isinstance(self.params, MultiParams)
        seeds = [[self.seed, epoch, row] for (epoch, _), row in zip(keys, rows.tolist(), strict=True)]
        augments = [MultiAugment.draw(np.random.default_rng(seed), self.params.augment) for seed in seeds]
        inputs = image_inputs(self.people, rows, self.params, augments)
        return Batch(
            inputs, image_targets(self.people, rows, self.params, augments, inputs.affine_B23.numpy())
        )


def _mask(mask_HW: np.ndarray | None, affine: np.ndarray, cells: int) -> np.ndarray:
    """(h, w) uint8: the image's mask under `affine` (image px -> input px), nearest pixel; 1 outside the image."""
    if mask_HW is None:
        return np.ones((cells, cells), dtype=np.uint8)
    to_cells = np.column_stack([affine[:, :2] / STRIDE, to_cell(affine[:, 2])])
    return cv2.warpAffine(
        mask_HW.astype(np.uint8),
        to_cells,
        (cells, cells),
        flags=cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=1.0,
    )
