"""Samples of the single-person problem: one person of a prepared set, cropped from the image.

Legend: B people, K joints, H W input px, h w heatmap cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from pose.data.augment import Augment, person_affine, warp
from pose.data.batch import Batch, Inputs, SingleTargets
from pose.data.person_set import PersonSet
from pose.data.samples import SampleDataset
from pose.keypoints.geometry import STRIDE, compose, invert, to_cell, transform, zoomed
from pose.keypoints.heatmap import encode
from pose.params import SingleInferenceParams, SingleParams


class PersonDataset(SampleDataset):
    """Batches of rows of a prepared set.

    params: SingleParams with a seed, to train. scales: further sizes of the people, for inference.
    """

    def __init__(
        self,
        people: PersonSet,
        rows: np.ndarray,
        params: SingleInferenceParams,
        *,
        seed: int | None = None,
        scales: Sequence[float] = (),
    ):
        super().__init__(rows, seed)
        self.people, self.params, self.scales = people, params, scales

    def inference_batch(self, row_B: np.ndarray) -> Batch:
        """Every person upright and centred."""
        augments = [Augment()] * len(row_B)
        return Batch(person_inputs(self.people, row_B, self.params, augments, self.scales))

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
    people: PersonSet,
    row_B: np.ndarray,
    params: SingleInferenceParams,
    augments: Sequence[Augment],
    scales: Sequence[float] = (),
) -> Inputs:
    """The crops of rows of a prepared set, each under its augmentation, and at further `scales`."""
    placed = zip(people.centre_N2[row_B], people.scale_N[row_B].tolist(), augments, strict=True)
    affines = [
        person_affine(centre, scale, params=params, augment=augment) for centre, scale, augment in placed
    ]
    packed = zip(people.images(row_B), affines, strict=True)
    shown = ((image, compose(affine, invert(packed_affine))) for (image, packed_affine), affine in packed)
    inputs = crops(shown, affines, params.input_size, scales)
    return replace(inputs, gain_B3=torch.tensor([augment.gain for augment in augments]))


def crops(
    images: Iterable[tuple[np.ndarray, np.ndarray]],
    affines: Sequence[np.ndarray],
    size: int,
    scales: Sequence[float] = (),
) -> Inputs:
    """A square of `size` px of each image, and further ones that show everything `scales` times as large.

    images: pixels of an image, perhaps shrunk, and affine from these to input px. affines: image px -> input
    px.
    """
    zooms = (1.0, *scales)
    batches = [np.empty((len(affines), size, size, 3), dtype=np.uint8) for _ in zooms]
    for place, (image_HW3, affine) in enumerate(images):
        for zoom, image_BHW3 in zip(zooms, batches, strict=True):
            warp(image_HW3, affine if zoom == 1 else zoomed(affine, zoom, size), size, out=image_BHW3[place])
    affine_B23 = torch.from_numpy(np.stack(affines))
    return Inputs(tuple(map(torch.from_numpy, batches)), affine_B23, zooms=zooms)


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
