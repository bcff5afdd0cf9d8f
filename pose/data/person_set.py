"""Prepared files of people with their surroundings in the image, one person a row.

`lsp_mpii.h5` has the columns of the file that was published with the self-adversarial paper and more beside
them; `people.h5` of any other data set has COCO's. N rows, K joints.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from pose.data.formats.person_table import FEET_SHIFT, PERSON_HEIGHT, is_labelled, zero_based
from pose.data.formats.published_h5 import decode_name
from pose.data.prepared_set import PreparedSet, annotation_file, read_names

__all__ = ["PERSON_HEIGHT", "PersonSet"]

FILE = "people.h5"


class PersonSet(PreparedSet):
    """Reader of a prepared file, a person a row; the image of a row shows the person's surroundings.

    joint_NK2: zero-based image px, NaN where unlabelled. labelled_NK: bool. visible_NK: 1 seen, 0 occluded.
    centre_N2: middle of the crop, zero-based image px. scale_N: height / 200 px. head_size_N: px or NaN.
    source_N, split_N: str. image_size_N2: width, height. person_N: index in its image. image_id_N: COCO's id
    of the image, -1 in `lsp_mpii.h5`. istrain_N: published code, in that file alone.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(Path(path))

    def _read_columns(self, file: h5py.File) -> None:
        self.split_N = self._split_N
        self.head_size_N: np.ndarray = file["head_size"][()]
        self.image_size_N2: np.ndarray = file["image_size"][()]
        self.person_N: np.ndarray = file["person"][()]
        if "keypoint" in file:
            self._read_coco(file)
        else:
            self._read_published(file)

    def _read_published(self, file: h5py.File) -> None:
        source_N, part_NK2 = file["source"][()], file["part"][()]
        self.labelled_NK = is_labelled(part_NK2)
        self.joint_NK2 = np.where(self.labelled_NK[..., None], zero_based(source_N, part_NK2), np.nan)
        self.visible_NK: np.ndarray = file["visible"][()]
        self.centre_N2 = zero_based(source_N, file["center"][()])
        self.scale_N: np.ndarray = file["scale"][()]
        self.source_N = read_names(file, "source")
        self.image_id_N = np.full(len(self), -1)
        self.istrain_N: np.ndarray = file["istrain"][()]
        self._code_N50 = file["imgname"][()]
        is_mpii_N = self.source_N == "mpii"
        self.centre_N2[:, 1] += np.where(is_mpii_N, FEET_SHIFT * self.scale_N, 0.0)

    def _read_coco(self, file: h5py.File) -> None:
        joint_NK2, flag_NK1 = np.split(file["keypoint"][()], [2], axis=2)
        self.labelled_NK = flag_NK1[..., 0] > 0
        self.joint_NK2 = np.where(self.labelled_NK[..., None], joint_NK2, np.nan)
        self.visible_NK = (flag_NK1[..., 0] > 1).astype(float)
        box_N4: np.ndarray = file["box"][()]
        self.centre_N2 = box_N4[:, :2] + (box_N4[:, 2:] - 1) / 2
        self.scale_N = box_N4[:, 2:].max(axis=1) / PERSON_HEIGHT
        self.source_N = np.full(len(self), self.path.parent.name)
        self.image_id_N = file["image"][()]
        self._name_N: np.ndarray = file["name"].asstr()[()]

    def annotations(self, split: str) -> Path:
        """COCO's annotations of the split, beside a `people.h5`."""
        return annotation_file(self.path.parent, split)

    def rows(self, split: str) -> np.ndarray:
        """Indices of the people of a split who have at least one labelled joint."""
        rows = super().rows(split)
        return rows[self.labelled_NK[rows].any(axis=1)]

    def name(self, row: int) -> str:
        """Name of the person's image, relative to the data root."""
        if self.image_id_N[row] < 0:
            return decode_name(self._code_N50[row])
        return str(self._name_N[row])
