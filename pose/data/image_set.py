"""The prepared folder of a COCO set: images with any number of people.

`coco.h5` holds what training reads, `annotations/{split}.json` what pycocotools scores by; both list images
in the same order.

I images, N people with joints in all of them, P people of one image, K joints, H W image px. Coordinates are
COCO's own: zero-based image px.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pose.data.rle import region_of
from pose.io.errors import UserError
from pose.io.hdf5 import (
    IMAGES,
    MOST_NUMBERS,
    OncePerProcess,
    check_images,
    checked_dataset,
    naming,
    open_h5,
    read_affine_column,
    read_code_column,
    read_column,
    read_number_column,
    read_text_attribute,
    read_whole_column,
)
from pose.io.images import FAR, MAX_PIXELS, decode_image
from pose.keypoints.skeleton import read_skeleton

SPLITS = ("train", "validation")
FILE = "coco.h5"


def annotation_file(folder: str | Path, split: str) -> Path:
    """The annotations of a split in the prepared folder."""
    return Path(folder) / "annotations" / f"{split}.json"


class ImageSet:
    """Reader of the prepared folder: columns as numpy arrays, images and masks read one at a time.

    path: the folder, or its `coco.h5`. id_I: COCO's image ids. split_I: str, of SPLITS. image_size_I2: width,
    height. joint_NK2: zero-based image px, NaN where unlabelled. labelled_NK: bool, COCO's flag above 0.
    visible_NK: bool, flag 2. annotation_N: COCO's annotation id. row_N: the image of each person; people of
    an image lie together.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = Path(path).parent if Path(path).name == FILE else Path(path)
        self.path = self.folder / FILE
        self._datasets = OncePerProcess(self.path)
        with open_h5(self.path) as file:
            self.skeleton = read_skeleton(read_text_attribute(file, "skeleton"), f"{self.path}: skeleton")
            self.id_I: np.ndarray = read_whole_column(file, "id", (None,))
            images = len(self.id_I)
            self.split_I: np.ndarray = np.array(SPLITS)[read_code_column(file, "split", images, SPLITS)]
            self.image_size_I2: np.ndarray = read_whole_column(
                file, "image_size", (images, 2), least=1, most=MAX_PIXELS
            )
            self._name_I = read_column(file, "name", (images,), kinds="OS")
            self._affine_I23 = read_affine_column(file, "packed_affine", images)
            people_I = read_whole_column(file, "people", (images,), least=0, most=MOST_NUMBERS)
            keypoint_NK3 = read_number_column(file, "keypoint", (int(people_I.sum()), len(self.skeleton), 3))
            self.annotation_N: np.ndarray = read_whole_column(file, "annotation", (len(keypoint_NK3),))
            runs_I = read_whole_column(file, "runs", (images,), least=0, most=MOST_NUMBERS)
            checked_dataset(file, "run", (int(runs_I.sum()),))
            check_images(file, images)
        if (self.image_size_I2.prod(axis=1) > MAX_PIXELS).any():
            raise UserError(
                f"{self.path}: dataset 'image_size' holds an image above {MAX_PIXELS:,} px, expected fewer"
            )
        joint_NK2, flag_NK = keypoint_NK3[..., :2], keypoint_NK3[..., 2]
        self.labelled_NK: np.ndarray = (flag_NK > 0) & (np.abs(joint_NK2) < FAR).all(axis=2)
        self.visible_NK: np.ndarray = self.labelled_NK & (flag_NK > 1)
        self.joint_NK2: np.ndarray = np.where(self.labelled_NK[..., None], joint_NK2, np.nan)
        self.row_N: np.ndarray = np.repeat(np.arange(images), people_I)
        self._people_I = np.concatenate([[0], np.cumsum(people_I)])
        self._runs_I = np.concatenate([[0], np.cumsum(runs_I)])

    def __len__(self) -> int:
        return len(self.id_I)

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageSet, (self.folder,)

    def rows(self, split: str) -> np.ndarray:
        """Indices of the images of a split."""
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}, expected one of {', '.join(SPLITS)}")
        return np.flatnonzero(self.split_I == split)

    def annotations(self, split: str) -> Path:
        """The split's annotations, for pycocotools."""
        return annotation_file(self.folder, split)

    def name(self, row: int) -> str:
        """Name of the image, relative to the raw set's folder, such as `val2017/000000000139.jpg`."""
        name = self._name_I[row]
        return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)

    def joints(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """joint_PK2, image px, NaN where unlabelled, and labelled_PK of an image's people with joints."""
        people = slice(self._people_I[row], self._people_I[row + 1])
        return self.joint_NK2[people], self.labelled_NK[people]

    def image(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """The image as packed, (H, W, 3) uint8 RGB, and the affine (2, 3) from image px to its px."""
        with naming(self.path, IMAGES):
            data: np.ndarray = self._datasets[IMAGES][row]
        image_HW3 = decode_image(data.tobytes(), f"{self.path}: image {self.id_I[row]}")
        return image_HW3, self._affine_I23[row].copy()

    def mask(self, row: int) -> np.ndarray | None:
        """(H, W) bool in image px, False where the loss must not look (crowds, people without joints).

        None if it may look everywhere.
        """
        first, last = self._runs_I[row : row + 2].tolist()
        if first == last:
            return None
        width, height = self.image_size_I2[row].tolist()
        with naming(self.path, "run"):
            run_R: np.ndarray = self._datasets["run"][first:last].astype(np.uint32)
        try:
            return ~region_of(run_R, height, width)
        except ValueError as error:
            raise UserError(f"{self.path}: mask of image {self.id_I[row]} has {error}") from None
