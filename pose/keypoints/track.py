"""Who is who from frame to frame: nearest poses by object keypoint similarity (OKS).

P people of this frame, T tracks, K joints. Coordinates are image px.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton

THRESHOLD, MAX_LOST = 0.1, 30
# COCO's areas are of segments, about so much of the box around the joints. Someone seen from the side or
# lying has hardly a width: no area is below this share of the square over the longer side.
BOX_SHARE, LEAST_SHARE = 0.53, 0.1
UNKNOWN = 32  # px: COCO's small people are smaller
GAIN = 0.5  # of an alpha-beta filter: how much of a prediction's error corrects the velocity


@dataclass
class _Track:
    number: int
    joint_K2: np.ndarray
    velocity_2: np.ndarray = field(default_factory=lambda: np.zeros(2))
    lost: int = 0


class Tracker:
    """Gives people in consecutive frames of one film their ids, from 1 on.

    A person is looked for where their last steps lead. threshold: the least OKS of a person with where they
    are expected. max_lost: frames that a person may be unseen and keep the id.
    """

    def __init__(self, skeleton: Skeleton, *, threshold: float = THRESHOLD, max_lost: int = MAX_LOST):
        self._sigmas, self._threshold, self._max_lost = skeleton.oks_sigmas, threshold, max_lost
        self._tracks: list[_Track] = []
        self._numbers = itertools.count(1)

    def update(self, people: People) -> list[int]:
        """The ids of the next frame's people, in their order; 0 for one without joints.

        They are assigned by the highest total OKS.
        """
        from scipy.optimize import linear_sum_assignment  # here: most predictions do without scipy

        for track in self._tracks:
            track.joint_K2 = track.joint_K2 + track.velocity_2
            track.lost += 1
        joints = len(self._sigmas)
        expected_TK2 = np.reshape([track.joint_K2 for track in self._tracks], (-1, joints, 2))
        similarity_PT = oks(people.joint_PK2, expected_TK2, self._sigmas)
        similarity_PT[similarity_PT < self._threshold] = (
            0  # else a hopeless pair could take a good one's place
        )
        ids = [0] * len(people)
        for person, row in zip(*linear_sum_assignment(-similarity_PT), strict=True):
            if similarity_PT[person, row] > 0:
                ids[person] = self._tracks[row].number
                self._follow(self._tracks[row], people.joint_PK2[person])
        for person, number in enumerate(ids):
            if not number and np.isfinite(people.joint_PK2[person]).any():
                ids[person] = next(self._numbers)
                self._tracks.append(_Track(ids[person], people.joint_PK2[person]))
        self._tracks = [track for track in self._tracks if track.lost <= self._max_lost]
        return ids

    @staticmethod
    def _follow(track: _Track, joint_K2: np.ndarray) -> None:
        error_2 = np.nanmean(joint_K2 - track.joint_K2, axis=0)
        track.velocity_2 = track.velocity_2 + GAIN * error_2 / max(track.lost, 1)
        track.joint_K2 = np.where(np.isfinite(joint_K2), joint_K2, track.joint_K2)
        track.lost = 0


def oks(joint_PK2: np.ndarray, joint_TK2: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """(P, T) OKS of each pair over the joints that both have, 0 if there are none; px.

    COCO's formula, the mean of exp(-d^2 / (2 area (2 sigma)^2)), with the area of the second person by the
    box around the joints. A single joint has none: its person counts as UNKNOWN px wide.
    """
    with np.errstate(invalid="ignore"):
        low_T2, high_T2 = np.fmin.reduce(joint_TK2, axis=1), np.fmax.reduce(joint_TK2, axis=1)
    side_T2 = high_T2 - low_T2
    area_T = np.maximum(BOX_SHARE * side_T2.prod(axis=1), LEAST_SHARE * side_T2.max(axis=1, initial=0) ** 2)
    one_T = np.isfinite(joint_TK2).all(axis=-1).sum(axis=-1) == 1
    area_T = np.where(one_T, UNKNOWN**2, area_T)
    square_PTK = np.square(joint_PK2[:, None] - joint_TK2[None]).sum(axis=-1)
    both_PTK = np.isfinite(square_PTK)
    spread_TK = 2 * np.maximum(area_T, 1)[:, None] * (2 * sigmas) ** 2
    similarity_PTK = np.where(both_PTK, np.exp(-np.nan_to_num(square_PTK) / spread_TK), 0)
    similarity_PT: np.ndarray = similarity_PTK.sum(axis=-1) / np.maximum(both_PTK.sum(axis=-1), 1)
    return similarity_PT
