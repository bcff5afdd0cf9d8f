"""Samples of the multi-person problem: an image as a square, with all of its people.

The square is centred, its side the image's long side, black outside the image.

Legend: B images, P people, K joints, H W input px, h w heatmap cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch

from pose.data.augment import UNCHANGED, MultiAugment, image_affine, warp
from pose.data.batch import Batch, Inputs, MultiTargets
from pose.data.image_set import ImageSet
from pose.data.samples import SampleDataset
from pose.keypoints.geometry import STRIDE, compose, invert, to_cell, transform
from pose.keypoints.heatmap import encode_people
from pose.params import MultiInferenceParams, MultiParams

INPUT_MULTIPLE = 64  # the sides of inputs are multiples of it, px


class ImageDataset(SampleDataset):
    """Batches of rows of a prepared set. params: MultiParams with a seed, to train.

    scales: further sizes for inference, as factors of `input_size`.
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
        super().__init__(rows, seed)
        self.people, self.params, self.scales = people, params, scales

    def sample_id(self, row: int) -> int:
        """COCO's id: other images of the set, of another split perhaps, do not matter."""
        return int(self.people.id_I[row])

    def inference_batch(self, row_B: np.ndarray) -> Batch:
        """Complete images, upright and unaltered."""
        return Batch(image_inputs(self.people, row_B, self.params, [UNCHANGED] * len(row_B), self.scales))

    def training_batch(self, row_B: np.ndarray, rngs: Sequence[np.random.Generator]) -> Batch:
        """Every image under an augmentation."""
        assert isinstance(self.params, MultiParams)
        augments = [MultiAugment.draw(rng, self.params.augment) for rng in rngs]
        inputs = image_inputs(self.people, row_B, self.params, augments)
        targets = image_targets(self.people, row_B, self.params, augments, inputs.affine_B23.numpy())
        return Batch(inputs, targets)


def further_sizes(size: int, scales: Sequence[float]) -> list[int]:
    """Sides, px, of the inputs at further scales, rounded up to INPUT_MULTIPLE, without `size` itself."""
    # Rounded first: 640 * 0.7 is a hair above 448.
    multiples = (int(np.ceil(round(size * scale / INPUT_MULTIPLE, 6))) for scale in scales)
    return sorted({multiple * INPUT_MULTIPLE for multiple in multiples} - {size})


def letterbox_inputs(
    images: Sequence[np.ndarray], params: MultiInferenceParams, scales: Sequence[float]
) -> Inputs:
    """A user's own images, (H, W, 3) uint8 RGB each, at the input's size and further scales."""
    shown = ((image, np.eye(2, 3), np.array(image.shape[1::-1])) for image in images)
    return _square_inputs(shown, [UNCHANGED] * len(images), params, scales)


def image_inputs(
    people: ImageSet,
    row_B: np.ndarray,
    params: MultiInferenceParams,
    augments: Sequence[MultiAugment],
    scales: Sequence[float] = (),
) -> Inputs:
    """Images of a prepared set, each under its augmentation.

    scales: further sizes, as factors of `input_size`.
    """
    shown = ((*people.image(row), people.image_size_I2[row]) for row in row_B.tolist())
    return _square_inputs(shown, augments, params, scales)


def _square_inputs(
    images: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]],
    augments: Sequence[MultiAugment],
    params: MultiInferenceParams,
    scales: Sequence[float],
) -> Inputs:
    """images: pixels of an image, perhaps shrunk; affine from image px to these; the image's own (w, h)."""
    sizes = [params.input_size, *further_sizes(params.input_size, scales)]
    batches = [np.empty((len(augments), size, size, 3), dtype=np.uint8) for size in sizes]
    affines = []
    for place, ((image_HW3, packed_affine, size_wh), augment) in enumerate(
        zip(images, augments, strict=True)
    ):
        for size, image_BHW3 in zip(sizes, batches, strict=True):
            affine = compose(image_affine(size_wh, size, augment), invert(packed_affine))
            warp(image_HW3, affine, size, augment, out=image_BHW3[place])
        affines.append(image_affine(size_wh, params.input_size, augment))
    return Inputs(
        images=tuple(torch.from_numpy(image_BHW3) for image_BHW3 in batches),
        affine_B23=torch.from_numpy(np.stack(affines)),
    )


def image_targets(
    people: ImageSet,
    row_B: np.ndarray,
    params: MultiParams,
    augments: Sequence[MultiAugment],
    affine_B23: np.ndarray,
) -> MultiTargets:
    """The targets of those images. affine_B23: image px -> input px, by which joints and mask move."""
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
    targets = MultiTargets(*(torch.from_numpy(np.stack(arrays)) for arrays in (heatmaps, masks, padded)))
    if people.has_joint_IK is None:
        return targets
    has_joint_BK = people.has_joint_IK[row_B].astype(np.uint8)
    flipped_B = np.array([augment.flip for augment in augments])
    has_joint_BK[flipped_B] = has_joint_BK[flipped_B][:, flip_index]
    return replace(targets, has_joint_BK=torch.from_numpy(has_joint_BK))


def _mask(mask_HW: np.ndarray | None, affine: np.ndarray, cells: int) -> np.ndarray:
    """(h, w) uint8: the image's mask moved by `affine` (image px -> input px), 1 outside the image."""
    if mask_HW is None:
        return np.ones((cells, cells), dtype=np.uint8)
    to_cells = np.column_stack([affine[:, :2] / STRIDE, to_cell(affine[:, 2])])
    mask_HW = mask_HW.astype(np.uint8)
    return cv2.warpAffine(mask_HW, to_cells, (cells, cells), flags=cv2.INTER_NEAREST, borderValue=1.0)
