"""Prepared files of people with their surroundings in the image, one person a row.

`lsp_mpii.h5` has the columns of the file that was published with the self-adversarial paper and more beside
them; `people.h5` of any other data set has COCO's. The people of a `coco.h5`, whose rows are images, have the
boxes of their joints. N rows, K joints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np

from pose.data.formats.person_table import PERSON_HEIGHT, SPLITS, crop_centre, is_labelled, zero_based
from pose.data.formats.published_h5 import decode_name
from pose.data.prepared_set import IMAGES_FILE, PreparedSet, read_keypoints, read_names

__all__ = ["PERSON_HEIGHT", "PersonSet"]

FILE = "people.h5"


class PersonSet(PreparedSet):
    """Reader of a prepared file, a person a row; the image of a row shows the person's surroundings.

    joint_NK2: zero-based image px, NaN where unlabelled. labelled_NK: bool. centre_N2: middle of the crop,
    zero-based image px. scale_N: height / 200 px. head_size_N: px or NaN. mpii_N: bool, MPII's people of
    `lsp_mpii.h5`, whom PCKh is for. source_N, split_N: str. image_size_N2: width, height. image_id_N: COCO's
    id of the image, -1 in that file.

    path: the file, or the folder of a `coco.h5`.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(Path(path) / IMAGES_FILE if Path(path).is_dir() else Path(path))

    def images(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`image` of each of these rows."""
        return super().images(self._packed_N[rows])

    def _read_columns(self, file: h5py.File) -> None:
        self._packed_N = np.repeat(np.arange(len(self)), file["people"][()] if "people" in file else 1)
        self.split_N = self._split_N = self._split_N[self._packed_N]
        self._splits = SPLITS  # a file of images has but two of them
        self.image_size_N2: np.ndarray = file["image_size"][()][self._packed_N]
        self.head_size_N: np.ndarray = (
            file["head_size"][()] if "head_size" in file else np.full(len(self), np.nan)
        )
        if "keypoint" in file:
            self._read_coco(file)
        else:
            self._read_published(file)

    def _read_published(self, file: h5py.File) -> None:
        source_N, part_NK2 = file["source"][()], file["part"][()]
        self.labelled_NK = is_labelled(part_NK2)
        self.joint_NK2 = np.where(self.labelled_NK[..., None], zero_based(source_N, part_NK2), np.nan)
        self.scale_N: np.ndarray = file["scale"][()]
        self.centre_N2 = crop_centre(source_N, file["center"][()], self.scale_N)
        self.source_N = read_names(file, "source")
        self.image_id_N = np.full(len(self), -1)
        self._code_N50 = file["imgname"][()]
        self.mpii_N = self.source_N == "mpii"

    def _read_coco(self, file: h5py.File) -> None:
        self.joint_NK2, self.labelled_NK = read_keypoints(file)
        if "box" in file:
            low_N2, size_N2 = np.split(file["box"][()], 2, axis=1)
            self.centre_N2, side_N = low_N2 + (size_N2 - 1) / 2, size_N2.max(axis=1)
        else:
            low_N2, high_N2 = np.nanmin(self.joint_NK2, axis=1), np.nanmax(self.joint_NK2, axis=1)
            self.centre_N2, side_N = (low_N2 + high_N2) / 2, (high_N2 - low_N2).max(axis=1)
        self.scale_N = side_N / PERSON_HEIGHT
        self.source_N = np.full(len(self), self.path.parent.name)  # the data set's own name, any name
        self.mpii_N = np.zeros(len(self), dtype=bool)
        self.image_id_N = file["image" if "image" in file else "id"][()][self._packed_N]
        self._name_N: np.ndarray = file["name"].asstr()[()][self._packed_N]

    def rows(self, split: str) -> np.ndarray:
        """Indices of the people of a split who have a labelled joint, and an extent."""
        rows = super().rows(split)
        return rows[self.labelled_NK[rows].any(axis=1) & (self.scale_N[rows] > 0)]

    def name(self, row: int) -> str:
        """Name of the person's image, relative to the data root."""
        if self.image_id_N[row] < 0:
            return decode_name(self._code_N50[row])
        return str(self._name_N[row])
