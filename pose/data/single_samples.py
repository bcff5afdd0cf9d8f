"""Samples of the single-person problem: one person of a prepared set, cropped from the image.

Legend: B people, K joints, H W input px, h w heatmap cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pose.data.augment import Augment, person_affine, warp
from pose.data.batch import Batch, Inputs, SingleTargets
from pose.data.person_set import PersonSet
from pose.data.samples import SampleDataset
from pose.keypoints.geometry import STRIDE, compose, invert, to_cell, transform
from pose.keypoints.heatmap import encode
from pose.params import SingleInferenceParams, SingleParams


class PersonDataset(SampleDataset):
    """Batches of rows of a prepared set. params: SingleParams with a seed, to train."""

    def __init__(
        self, people: PersonSet, rows: np.ndarray, params: SingleInferenceParams, *, seed: int | None = None
    ):
        super().__init__(rows, seed)
        self.people, self.params = people, params

    def inference_batch(self, row_B: np.ndarray) -> Batch:
        """Every person upright and centred."""
        return Batch(person_inputs(self.people, row_B, self.params, [Augment()] * len(row_B)))

    def training_batch(self, row_B: np.ndarray, rngs: Sequence[np.random.Generator]) -> Batch:
        """Every person under an augmentation."""
        assert isinstance(self.params, SingleParams)
        augments = [Augment.draw(rng, self.params.augment) for rng in rngs]
        inputs = person_inputs(self.people, row_B, self.params, augments)
        targets = person_targets(self.people, row_B, self.params, augments, inputs.affine_B23.numpy())
        return Batch(inputs, targets)


# Step by step for all people, not person by person: a step's code is then still in the processor's caches,
# which makes small steps two to three times faster, and arithmetic is done for all joints of the batch at
# once.


def person_inputs(
    people: PersonSet, row_B: np.ndarray, params: SingleInferenceParams, augments: Sequence[Augment]
) -> Inputs:
    """The crops of rows of a prepared set, each under its augmentation."""
    placed = zip(people.centre_N2[row_B], people.scale_N[row_B].tolist(), augments, strict=True)
    affines = [
        person_affine(centre, scale, params=params, augment=augment) for centre, scale, augment in placed
    ]
    size = params.input_size
    image_BHW3 = np.empty((len(row_B), size, size, 3), dtype=np.uint8)
    for (image, packed_affine), affine, out in zip(people.images(row_B), affines, image_BHW3, strict=True):
        warp(image, compose(affine, invert(packed_affine)), size, out=out)
    return Inputs(
        images=(torch.from_numpy(image_BHW3),),
        affine_B23=torch.from_numpy(np.stack(affines)),
        gain_B3=torch.tensor([augment.gain for augment in augments]),
    )


def person_targets(
    people: PersonSet,
    row_B: np.ndarray,
    params: SingleParams,
    augments: Sequence[Augment],
    affine_B23: np.ndarray,
) -> SingleTargets:
    """The targets of those crops. affine_B23: image px -> input px, by which joints move as pixels did."""
    joints = zip(affine_B23, people.joint_NK2[row_B], strict=True)
    joint_BK2 = np.stack([transform(affine, joint_K2) for affine, joint_K2 in joints])
    labelled_BK = people.labelled_NK[row_B]
    flipped_B = np.array([augment.flip for augment in augments])
    flip_index = people.skeleton.flip_index
    joint_BK2[flipped_B] = joint_BK2[flipped_B][:, flip_index]
    labelled_BK[flipped_B] = labelled_BK[flipped_B][:, flip_index]
    cells = params.input_size // STRIDE
    joint_N2, labelled_N = to_cell(joint_BK2).reshape(-1, 2), labelled_BK.reshape(-1)
    heatmap_Nhw, _ = encode(joint_N2, labelled_N, size=cells, sigma=params.sigma, target=params.target)
    mask_BK = labelled_BK if params.unlabelled == "ignore" else np.ones_like(labelled_BK)
    return SingleTargets(
        heatmap_BKhw=torch.from_numpy(heatmap_Nhw.reshape(len(row_B), -1, cells, cells)),
        mask_BK=torch.from_numpy(mask_BK.astype(np.float32)),
    )
