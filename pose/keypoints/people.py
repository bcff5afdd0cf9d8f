"""The people found in one image: what every network's output is decoded to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np


@dataclass(frozen=True)
class People:
    """The people found in one image.

    joint_PK2: x, y in image pixels (pixel centres at whole numbers, zero-based), NaN where a joint was not
    found. score_PK: confidence of each joint, about 0 to 1 (the heatmap's peak), 0 where not found. score_P:
    of each person.
    """

    joint_PK2: np.ndarray
    score_PK: np.ndarray
    score_P: np.ndarray

    def __len__(self) -> int:
        return len(self.joint_PK2)

    def take(self, rows: np.ndarray) -> Self:
        """The people of these rows, by number or mask, in their order."""
        joint_PK2, score_PK, score_P = self.joint_PK2[rows], self.score_PK[rows], self.score_P[rows]
        return replace(self, joint_PK2=joint_PK2, score_PK=score_PK, score_P=score_P)

    def above(self, score: float) -> Self:
        """The people whose score is at least `score`."""
        return self.take(self.score_P >= score)

    @staticmethod
    def join(found: Sequence[People], joints: int) -> People:
        """All people of several, nobody if there are none. joints: how many each has."""
        nobody = People(np.empty((0, joints, 2)), np.empty((0, joints)), np.empty(0))
        columns = zip(*((one.joint_PK2, one.score_PK, one.score_P) for one in (nobody, *found)), strict=True)
        return People(*(np.concatenate(column) for column in columns))
