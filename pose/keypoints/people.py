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

    def above(self, score: float) -> Self:
        """The people whose score is at least `score`."""
        sure_P = self.score_P >= score
        return replace(
            self,
            joint_PK2=self.joint_PK2[sure_P],
            score_PK=self.score_PK[sure_P],
            score_P=self.score_P[sure_P],
        )

    @staticmethod
    def join(found: Sequence[People], joints: int) -> People:
        """All people of several, nobody if there are none. joints: how many each has."""
        nobody = People(np.empty((0, joints, 2)), np.empty((0, joints)), np.empty(0))
        columns = zip(*((one.joint_PK2, one.score_PK, one.score_P) for one in (nobody, *found)), strict=True)
        return People(*(np.concatenate(column) for column in columns))
