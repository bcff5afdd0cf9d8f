"""Tables of annotated people, one row a person, as the readers of LSP, LSPET and MPII return them.

N rows, K = 16 joints in MPII order. Raw numbers are those of the annotations and of the published layout:
MPII's are one-based, LSP's and LSPET's are taken as they are. Only `zero_based` changes that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pose.io.images import FAR
from pose.keypoints.skeleton import built_in

SOURCES = ("lsp", "lspet", "mpii")
SPLITS = ("train", "validation", "test", "unused")
MPII = built_in("mpii")
JOINTS = len(MPII)
PERSON_HEIGHT = 200.0  # `scale` is a person's height in units of so many pixels
FEET_SHIFT = 15.0  # crops of MPII lie so many pixels * scale below `objpos`, so that the feet are in them
# Codes of `istrain` in the published file. Its original loader confused 0 and 2.
TRAIN, LSP_TEST, MPII_TEST, INCOMPLETE = 1, 0, 2, -1


@dataclass(frozen=True)
class PersonTable:
    """Annotated people in raw numbers, before anything is known about their images.

    source_N: index in SOURCES. name_N: image names such as `LSP/images/im0001.jpg`. centre_N2,
    scale_N: NaN where not annotated; scale is height / 200 px. part_NK2: 0 or less where absent. visible_NK:
    1 seen, 0 occluded or absent. istrain_N: published code. head_size_N: px, 0.6 * diagonal of MPII's head
    box, else NaN. person_N: index in its image.
    """

    source_N: np.ndarray
    name_N: np.ndarray
    centre_N2: np.ndarray
    scale_N: np.ndarray
    part_NK2: np.ndarray
    visible_NK: np.ndarray
    istrain_N: np.ndarray
    head_size_N: np.ndarray
    person_N: np.ndarray

    def __len__(self) -> int:
        return len(self.source_N)

    @property
    def labelled_NK(self) -> np.ndarray:
        """(N, K) bool."""
        return is_labelled(self.part_NK2)

    @property
    def mpii_N(self) -> np.ndarray:
        """(N,) bool: people of MPII."""
        return self.source_N == SOURCES.index("mpii")

    def take(self, rows: np.ndarray) -> PersonTable:
        """The table of the given rows, in their order."""
        return PersonTable(**{name: values[rows] for name, values in vars(self).items()})

    @staticmethod
    def join(tables: Sequence[PersonTable]) -> PersonTable:
        """All rows of several tables, one table after the other."""
        return PersonTable(
            **{name: np.concatenate([vars(table)[name] for table in tables]) for name in vars(tables[0])}
        )


def is_labelled(part_NK2: np.ndarray) -> np.ndarray:
    """(N, K) bool from raw joints (N, K, 2): published files mark an absent joint by a number of 0 or less.

    `visible` does not tell: published LSP rows call all 16 joints visible, also the two that LSP lacks.
    """
    labelled_NK: np.ndarray = (np.greater(part_NK2, 0) & np.less(part_NK2, FAR)).all(axis=2)
    return labelled_NK


def is_placed(centre_N2: np.ndarray, scale_N: np.ndarray) -> np.ndarray:
    """(N,) bool: whether a person's centre, px, and scale are numbers, and of a size that images have."""
    near_N2: np.ndarray = np.abs(centre_N2) < FAR
    return near_N2.all(axis=1) & (scale_N > 1 / FAR) & (scale_N < FAR)


def crop_centre(source_N: np.ndarray, centre_N2: np.ndarray, scale_N: np.ndarray) -> np.ndarray:
    """(N, 2) zero-based px: the middle of each person's crop, from the annotated centre."""
    middle_N2 = zero_based(source_N, centre_N2)
    middle_N2[:, 1] += np.where(source_N == SOURCES.index("mpii"), FEET_SHIFT * scale_N, 0.0)
    return middle_N2


def zero_based(source_N: np.ndarray, point_N2: np.ndarray) -> np.ndarray:
    """Raw points (N, ..., 2) -> zero-based px: MPII counts from one, the only place where that is undone."""
    one_based_N = (source_N == SOURCES.index("mpii")).astype(np.float64)
    zero_based_N2: np.ndarray = point_N2 - one_based_N.reshape(-1, *[1] * (point_N2.ndim - 1))
    return zero_based_N2
