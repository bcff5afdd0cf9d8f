"""Refinement: a single-person network looks again at each person that a multi-person network found.

The last step of associative embedding (arXiv 1611.05424): each person is cropped from the image, and the
joints of both networks are merged by confidence.

P people, K joints of the multi-person network, J joints that the single-person network knows as well, h w
heatmap cells of a crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pose.inference.batches import tta_outputs
from pose.io.errors import UserError
from pose.keypoints.geometry import invert, to_cell, to_px, transform
from pose.keypoints.heatmap import peak_positions
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton, same_joints
from pose.models.weights import load_weights
from pose.tasks.arrays import Box
from pose.tasks.single import SinglePerson
from pose.tasks.task import Model, load_model

# All chosen on images held out of the demo's training.
MIN_SCORE = 0.05  # people below it are left as they are
CONFIDENT = 0.1  # joints below it do not shape a person's box
REACH = 0.125  # how far a found joint may be off, standard deviation as a share of the crop's side
ANYWHERE = 0.01  # the chance that it is somewhere else altogether, over that of its own place
SAME_PLACE = 1.5  # heatmap cells; joints closer to each other than that are averaged


@dataclass(frozen=True)
class Refiner:
    """A single-person model that looks again at people with other joints.

    joint_K: for each joint of these people the model's joint of the same name, -1 if it has none. flip: also
    look at the mirrored crops. batch: crops at once.
    """

    model: Model
    joint_K: np.ndarray
    flip: bool
    batch: int

    @staticmethod
    def load(
        path: str | Path, skeleton: Skeleton, *, device: torch.device, flip: bool, batch: int
    ) -> Refiner:
        """Read model weights; UserError, naming the file, for others than those of single people.

        skeleton: of the people to be refined.
        """
        weights = load_weights(path)
        if weights.problem != "single":
            raise UserError(
                f"{path}: found weights of problem {weights.problem}, expected single to refine with"
            )
        joint_K = same_joints(skeleton, weights.skeleton)
        if (joint_K < 0).all():
            found = f"found joints of skeleton {weights.skeleton.name}, none of them in {skeleton.name}"
            raise UserError(f"{path}: {found}, expected some of the same name to refine with")
        return Refiner(load_model(weights, str(path), device), joint_K, flip, batch)

    def refine(self, images: Sequence[np.ndarray], found: Sequence[People]) -> list[People]:
        """The people of each image, in their order, with what a second look says of them.

        images: (H, W, 3) uint8 RGB each. found: in px of these images.
        """
        count_I = [len(people) for people in found]
        image_P = np.repeat(np.arange(len(found)), count_I).tolist()
        joint_PK2 = np.concatenate([people.joint_PK2 for people in found])
        score_PK = np.concatenate([people.score_PK for people in found])
        score_P = np.concatenate([people.score_P for people in found])
        boxes = [person_box(*person) for person in zip(joint_PK2, score_PK, strict=True)]
        rows = [p for p, box in enumerate(boxes) if box and score_P[p] >= MIN_SCORE]
        for first in range(0, len(rows), self.batch):
            some = rows[first : first + self.batch]
            here = np.ix_(np.array(some), np.flatnonzero(self.joint_K >= 0))
            shown, boxes_shown = [images[image_P[p]] for p in some], [boxes[p] for p in some]
            joint_PK2[here], score_PK[here], confidence_PJ = self._look(
                shown, boxes_shown, joint_PK2[here], score_PK[here]
            )
            # On the scale of either; it ranks people as the product of both does.
            score_P[some] = np.sqrt(score_P[some] * confidence_PJ.mean(axis=1))
        ends = np.cumsum(count_I)[:-1]
        arrays = (np.split(array, ends) for array in (joint_PK2, score_PK, score_P))
        return [People(*of_image) for of_image in zip(*arrays, strict=True)]

    def _look(
        self,
        images: Sequence[np.ndarray],
        boxes: Sequence[Box | None],
        joint_PJ2: np.ndarray,
        score_PJ: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`merge` of one person in the box of each image; joints in px of the images."""
        problem = self.model.problem
        assert isinstance(problem, SinglePerson)
        crops = problem.preprocess(images, boxes, ())
        outputs = tta_outputs(self.model, crops.to(self.model.device), flip=self.flip)
        heatmap_PJhw = problem.mean_heatmap(outputs).cpu().numpy()[:, self.joint_K[self.joint_K >= 0]]
        affines = [*crops.affine_B23.numpy()]
        cell_PJ2 = np.stack([to_cell(transform(*one)) for one in zip(affines, joint_PJ2, strict=True)])
        cell_PJ2, *scores = merge(cell_PJ2, score_PJ, heatmap_PJhw, target=problem.params.target)
        pairs = zip(map(invert, affines), to_px(cell_PJ2), strict=True)
        return np.stack([transform(*one) for one in pairs]), scores[0], scores[1]


def person_box(joint_K2: np.ndarray, score_K: np.ndarray) -> Box | None:
    """The square around a person's confident joints, or around all if they are too few; px.

    None if there are no two joints at different places. The crop has a margin of its own.
    """
    is_found_K = np.isfinite(joint_K2).all(axis=1)
    is_sure_K = is_found_K & (score_K >= CONFIDENT)
    joint_N2 = joint_K2[is_sure_K if is_sure_K.sum() > 1 else is_found_K]
    if not len(joint_N2):
        return None
    low, high = joint_N2.min(axis=0), joint_N2.max(axis=0)
    side = float((high - low).max())
    x, y = (low + high - side + 1) / 2
    return (x, y, side, side) if side > 0 else None


def merge(
    joint_PJ2: np.ndarray, score_PJ: np.ndarray, heatmap_PJhw: np.ndarray, *, target: str = "subcell"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints found at first, in cells of the crops (NaN where none was), with heatmaps of a second look.

    A heatmap's peak is where it is high and the found joint not far. If both are at the same place, the joint
    is their mean, weighted by confidence, else the more confident one. Returns the joints, their scores, and
    the confidence of the second look alone.
    """
    P, J, h, w = heatmap_PJhw.shape
    x_w, y_h = np.arange(w), np.arange(h)[:, None]
    square_PJhw = (x_w - joint_PJ2[..., 0, None, None]) ** 2 + (y_h - joint_PJ2[..., 1, None, None]) ** 2
    chance_PJhw = np.exp(-square_PJhw / (2 * (REACH * w) ** 2)) + ANYWHERE
    map_Nhw = heatmap_PJhw.reshape(P * J, h, w)
    weighted_Nc = (heatmap_PJhw * np.nan_to_num(chance_PJhw, nan=1.0)).reshape(P * J, h * w)
    map_N, cell_N = np.arange(P * J), weighted_Nc.argmax(axis=1)
    second_PJ2 = peak_positions(map_Nhw, map_N, cell_N, target=target).reshape(P, J, 2)
    confidence_PJ = map_Nhw.reshape(P * J, h * w)[map_N, cell_N].reshape(P, J).clip(0, 1)
    is_new_PJ = np.isnan(joint_PJ2).any(axis=2) & (confidence_PJ > 0)
    first_PJ2 = np.where(is_new_PJ[..., None], second_PJ2, joint_PJ2)
    is_same_PJ = np.linalg.norm(second_PJ2 - first_PJ2, axis=2) < SAME_PLACE
    share_PJ = confidence_PJ / np.maximum(confidence_PJ + score_PJ, 1e-9)
    share_PJ1 = np.where(is_same_PJ, share_PJ, confidence_PJ > score_PJ)[..., None]
    merged_PJ2 = share_PJ1 * second_PJ2 + (1 - share_PJ1) * first_PJ2
    return merged_PJ2, np.maximum(confidence_PJ, score_PJ), confidence_PJ
