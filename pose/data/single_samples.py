"""One person of a prepared set -> what the single-person network is shown and taught.

Legend: B people, K joints, H W input px, h w heatmap cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from pose.data.augment import Augment
from pose.data.batch import Batch, Inputs, SingleTargets
from pose.data.loader import SampleKey
from pose.data.person_set import FEET_SHIFT, PERSON_HEIGHT, PersonSet
from pose.keypoints.geometry import STRIDE, compose, crop_affine, invert, to_cell, transform
from pose.keypoints.heatmap import encode
from pose.params import SingleInferenceParams, SingleParams


def person_affine(
    centre_xy: np.ndarray,
    scale: float,
    *,
    params: SingleInferenceParams,
    augment: Augment | None = None,
    feet: bool = False,
) -> np.ndarray:
    """Affine from image px to the network's input px for a person at `centre_xy` (image px), `scale` * 200 px tall.

    feet: MPII's centre is the middle of the body without the feet; published code moves it down by 15 * scale
    px.
    """
    augment = augment or Augment()
    centre = centre_xy + np.array([0, FEET_SHIFT * scale]) if feet else centre_xy
    side = PERSON_HEIGHT * scale * params.crop * augment.widen
    return crop_affine(centre, side, params.input_size, angle=augment.angle, flip=augment.flip)


def crop(
    image_HW3: np.ndarray, affine_23: np.ndarray, size: int, *, out: np.ndarray | None = None
) -> np.ndarray:
    """The square of `size` px that `affine_23` (image px -> crop px) shows, black outside the image.

    out: an array to put it in.
    """
    flags = cv2.INTER_LINEAR
    return cv2.warpAffine(
        image_HW3, affine_23, (size, size), dst=out, flags=flags, borderMode=cv2.BORDER_CONSTANT
    )


class PersonDataset(Dataset[Batch]):
    """Batches of some rows of a prepared set, to train on or, without `params.augment` and targets, to predict.

    Indexed by (epoch, position): the draw of a sample depends on (seed, epoch, row) and nothing else, so
    neither the number of workers nor a restart changes what a sample looks like. seed: None for inference:
    every person upright, centred and unaltered, and no targets.
    """

    def __init__(
        self, people: PersonSet, rows: np.ndarray, params: SingleInferenceParams, *, seed: int | None = None
    ):
        self.people, self.rows, self.params, self.seed = people, rows, params, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: SampleKey) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[SampleKey]) -> Batch:
        """A whole batch at once, which is how torch's loader asks for one where a data set can do that."""
        rows = self.rows[[position for _, position in keys]]
        if self.seed is None:
            return Batch(person_inputs(self.people, rows, self.params, [Augment()] * len(keys)))
        assert isinstance(self.params, SingleParams)
        seeds = [[self.seed, epoch, row] for (epoch, _), row in zip(keys, rows.tolist(), strict=True)]
        augments = [Augment.draw(np.random.default_rng(seed), self.params.augment) for seed in seeds]
        inputs = person_inputs(self.people, rows, self.params, augments)
        return Batch(
            inputs, person_targets(self.people, rows, self.params, augments, inputs.affine_B23.numpy())
        )


# Step by step for all people, not person by person: a step's code is then still in the processor's caches,
# which makes small steps two to three times faster, and arithmetic is done for all joints of the batch at
# once.


def person_inputs(
    people: PersonSet, row_B: np.ndarray, params: SingleInferenceParams, augments: Sequence[Augment]
) -> Inputs:
    """The crops of rows of a prepared set, each under its augmentation."""
    feet_B = people.source_N[row_B] == "mpii"
    placed = zip(people.centre_N2[row_B], people.scale_N[row_B].tolist(), augments, feet_B, strict=True)
    affines = [
        person_affine(centre, scale, params=params, augment=one, feet=feet)
        for centre, scale, one, feet in placed
    ]
    size = params.input_size
    image_BHW3 = np.empty((len(row_B), size, size, 3), dtype=np.uint8)
    for (image, packed_affine), affine, shown in zip(people.images(row_B), affines, image_BHW3, strict=True):
        crop(image, compose(affine, invert(packed_affine)), size, out=shown)
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
    """The targets of those crops; affine_B23.

    Image px -> input px, by which the joints move as the pixels did.
    """
    flip_index = people.skeleton.flip_index
    joints = zip(affine_B23, people.joint_NK2[row_B], strict=True)
    joint_BK2 = np.stack([transform(affine, joint_K2) for affine, joint_K2 in joints])
    labelled_BK = people.labelled_NK[row_B]
    flipped_B = np.array([augment.flip for augment in augments])
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
