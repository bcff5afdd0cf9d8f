"""The prepared file `lsp_mpii.h5`: people of LSP, LSPET and MPII with their surroundings in the image.

N rows, K joints.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from pose.data.formats.person_table import PERSON_HEIGHT, is_labelled, zero_based
from pose.data.formats.published_h5 import decode_name
from pose.data.prepared_set import PreparedSet, read_names

__all__ = ["PERSON_HEIGHT", "PersonSet"]


class PersonSet(PreparedSet):
    """Reader of the prepared file, a person a row; the image of a row shows the person's surroundings.

    joint_NK2: zero-based image px, NaN where unlabelled. labelled_NK: bool. visible_NK: 1 seen, 0 occluded.
    centre_N2: zero-based image px (MPII's objpos; its crops lie 15 * scale px lower, see FEET_SHIFT).
    scale_N: height / 200 px. head_size_N: px or NaN. source_N, split_N: str, of SOURCES and SPLITS.
    image_size_N2: width, height. person_N: index in its image. istrain_N: published code.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(Path(path))

    def _read_columns(self, file: h5py.File) -> None:
        source_N, part_NK2 = file["source"][()], file["part"][()]
        self.labelled_NK = is_labelled(part_NK2)
        self.joint_NK2 = np.where(self.labelled_NK[..., None], zero_based(source_N, part_NK2), np.nan)
        self.visible_NK: np.ndarray = file["visible"][()]
        self.centre_N2 = zero_based(source_N, file["center"][()])
        self.scale_N: np.ndarray = file["scale"][()]
        self.head_size_N: np.ndarray = file["head_size"][()]
        self.source_N, self.split_N = read_names(file, "source"), self._split_N
        self.image_size_N2: np.ndarray = file["image_size"][()]
        self.person_N: np.ndarray = file["person"][()]
        self.istrain_N: np.ndarray = file["istrain"][()]
        self._code_N50 = file["imgname"][()]

    def rows(self, split: str) -> np.ndarray:
        """Indices of the people of a split who have at least one labelled joint."""
        rows = super().rows(split)
        return rows[self.labelled_NK[rows].any(axis=1)]

    def name(self, row: int) -> str:
        """Name of the person's image, relative to the data root."""
        return decode_name(self._code_N50[row])
