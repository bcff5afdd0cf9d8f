"""The prepared folder of a COCO set: images with any number of people.

`coco.h5` holds what training reads, `annotations/{split}.json` what pycocotools scores by; both list images
in the same order.

I images, N people with joints in all of them, P people of one image, K joints, H W image px. Coordinates are
COCO's own: zero-based image px.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from pose.data.prepared_set import IMAGES_FILE, PreparedSet, annotation_file
from pose.data.rle import region_of
from pose.io.errors import reading

SPLITS = ("train", "validation")


class ImageSet(PreparedSet):
    """Reader of the prepared folder, an image a row.

    path: the folder, or its `coco.h5`. id_I: COCO's image ids. split_I: str, of SPLITS. image_size_I2: width,
    height. joint_NK2: zero-based image px, NaN where unlabelled. labelled_NK: bool, COCO's flag above 0.
    visible_NK: bool, flag 2. annotation_N: COCO's annotation id. row_N: the image of each person; people of
    an image lie together. has_joint_IK: bool, False for the joints that the image's source does not label, in
    nobody; None if all sources label the same joints.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(Path(path) if Path(path).name == IMAGES_FILE else Path(path) / IMAGES_FILE)

    def _read_columns(self, file: h5py.File) -> None:
        self.id_I: np.ndarray = file["id"][()]
        self.split_I = self._split_N
        self.image_size_I2: np.ndarray = file["image_size"][()]
        self._name_I: np.ndarray = file["name"].asstr()[()]
        joint_NK2, flag_NK = np.split(file["keypoint"][()], [2], axis=2)
        self.labelled_NK: np.ndarray = flag_NK[..., 0] > 0
        self.visible_NK: np.ndarray = flag_NK[..., 0] > 1
        self.joint_NK2 = np.where(self.labelled_NK[..., None], joint_NK2, np.nan)
        self.annotation_N: np.ndarray = file["annotation"][()]
        self.has_joint_IK = file["has_joint"][()] > 0 if "has_joint" in file else None
        people_I = file["people"][()]
        self.row_N: np.ndarray = np.repeat(np.arange(len(people_I)), people_I)
        self._people_I = np.concatenate([[0], np.cumsum(people_I)])
        self._runs_I = np.concatenate([[0], np.cumsum(file["runs"][()])])

    def annotations(self, split: str) -> Path:
        """The split's annotations, for pycocotools."""
        return annotation_file(self.path.parent, split)

    def name(self, row: int) -> str:
        """Name of the image, relative to the raw set's folder, such as `val2017/000000000139.jpg`."""
        return str(self._name_I[row])

    def joints(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """joint_PK2, image px, NaN where unlabelled, and labelled_PK of an image's people with joints."""
        people = slice(self._people_I[row], self._people_I[row + 1])
        return self.joint_NK2[people], self.labelled_NK[people]

    def mask(self, row: int) -> np.ndarray | None:
        """(H, W) bool in image px, False where the loss must not look (crowds, people without joints).

        None if it may look everywhere.
        """
        first, last = self._runs_I[row : row + 2].tolist()
        if first == last:
            return None
        width, height = self.image_size_I2[row].tolist()
        with reading(self.path, "a prepared set"):
            return ~region_of(self._file()["run"][first:last], height, width)
