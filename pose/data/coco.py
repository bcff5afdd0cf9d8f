"""Images with many people: the prepared folder of a COCO set, and its reader.

`coco.h5` holds what training reads, `annotations/{split}.json` what pycocotools scores by, image by image in the same order.

I images, N people with joints in all of them, P people of one image, K = 17 joints in COCO order, H W image px. Coordinates are COCO's
as they stand: zero-based image px.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np

from pose.data.images import decode_image
from pose.data.lsp_mpii import checked_dataset, open_h5, read_column, read_number_column
from pose.errors import UserError
from pose.skeleton import COCO

SPLITS = ("train", "validation")
IMAGES = "coco.h5"


def annotation_file(folder: str | Path, split: str) -> Path:
    """Where a split's annotations are, within the prepared folder."""
    return Path(folder) / "annotations" / f"{split}.json"


def shrink(image_HW3: np.ndarray, zoom: float) -> tuple[np.ndarray, np.ndarray]:
    """The picture `zoom` times as large, and the affine (2, 3) to it, exact although its sides are whole numbers of px.

    Every pixel counts, unlike in a bilinear warp, which skips most of them. A zoom of 1 or more leaves the picture as it is.
    """
    size_wh = np.array(image_HW3.shape[1::-1])
    small_wh = np.clip(np.rint(size_wh * zoom), 1, size_wh).astype(int)
    if (small_wh == size_wh).all():
        return image_HW3, np.eye(2, 3)
    zoom_xy = small_wh / size_wh
    affine = np.column_stack([np.diag(zoom_xy), 0.5 * zoom_xy - 0.5])
    return cv2.resize(image_HW3, small_wh.tolist(), interpolation=cv2.INTER_AREA), affine


def runs_of(inside_HW: np.ndarray) -> np.ndarray:
    """A region as run lengths, uint32, as COCO counts them: down the columns, first what lies outside."""
    flat = inside_HW.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    first = [0] if flat[0] else []  # nothing outside before it
    return np.diff(np.concatenate([[0], first, edges, [len(flat)]])).astype(np.uint32)


def region_of(run_R: np.ndarray, height: int, width: int) -> np.ndarray:
    """The region (H, W) bool of run lengths; ValueError if these are not H x W pixels."""
    if int(run_R.sum(dtype=np.uint64)) != height * width:
        raise ValueError(f"runs of {run_R.sum(dtype=np.uint64)} pixels, expected {height} x {width}")
    inside = np.repeat(np.arange(len(run_R)) % 2 == 1, run_R)
    return np.ascontiguousarray(inside.reshape(width, height).T)


class CocoPeople:
    """Reader of the prepared folder. Columns are whole numpy arrays; pictures and masks are read one at a time.

    path: the folder, or its `coco.h5`. id_I: COCO's image ids. split_I: str, of SPLITS. image_size_I2: width, height.
    joint_NK2: zero-based image px, NaN where unlabelled. labelled_NK: bool, COCO's flag above 0. visible_NK: bool, flag 2.
    annotation_N: COCO's annotation id. row_N: the image of each person; people of an image lie together.

    The file is opened once per process, so that loader workers, forked or spawned, do not share a handle.
    """

    def __init__(self, path: str | Path) -> None:
        self.folder = Path(path).parent if Path(path).name == IMAGES else Path(path)
        self.path = self.folder / IMAGES
        self._handle: tuple[int, h5py.Dataset, h5py.Dataset] | None = None
        with open_h5(self.path) as file:
            self.id_I: np.ndarray = read_number_column(file, "id", (None,)).astype(np.int64)
            images = len(self.id_I)
            split_I = read_number_column(file, "split", (images,)).astype(np.int64)
            if not np.isin(split_I, range(len(SPLITS))).all():
                raise UserError(f"{self.path}: dataset 'split' holds other codes than 0 to {len(SPLITS) - 1}")
            self.split_I: np.ndarray = np.array(SPLITS)[split_I]
            self.image_size_I2: np.ndarray = read_number_column(file, "image_size", (images, 2)).astype(np.int64)
            self._name_I = read_column(file, "name", (images,))
            self._affine_I23 = read_number_column(file, "packed_affine", (images, 2, 3))
            people_I = read_number_column(file, "people", (images,)).astype(np.int64)
            keypoint_NK3 = read_number_column(file, "keypoint", (int(people_I.sum()), len(COCO), 3))
            self.annotation_N: np.ndarray = read_number_column(file, "annotation", (len(keypoint_NK3),)).astype(np.int64)
            runs_I = read_number_column(file, "runs", (images,)).astype(np.int64)
            checked_dataset(file, "run", (int(runs_I.sum()),))
            checked_dataset(file, "packed", (images,))
        self.labelled_NK: np.ndarray = keypoint_NK3[..., 2] > 0
        self.visible_NK: np.ndarray = keypoint_NK3[..., 2] > 1
        self.joint_NK2: np.ndarray = np.where(self.labelled_NK[..., None], keypoint_NK3[..., :2], np.nan)
        self.row_N: np.ndarray = np.repeat(np.arange(images), people_I)
        self._people_I = np.concatenate([[0], np.cumsum(people_I)])
        self._runs_I = np.concatenate([[0], np.cumsum(runs_I)])

    def __len__(self) -> int:
        return len(self.id_I)

    def __reduce__(self) -> tuple[Any, ...]:
        return CocoPeople, (self.folder,)

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
        return name.decode("utf-8") if isinstance(name, bytes) else str(name)

    def joints(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """joint_PK2, image px, NaN where unlabelled, and labelled_PK of the people with joints in an image."""
        people = slice(self._people_I[row], self._people_I[row + 1])
        return self.joint_NK2[people], self.labelled_NK[people]

    def picture(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """The image, (H, W, 3) uint8 RGB, made smaller or not, and the (2, 3) affine from image px to this picture's px."""
        data: np.ndarray = self._datasets()[0][row]
        return decode_image(data.tobytes(), f"{self.path}: picture of image {self.id_I[row]}"), self._affine_I23[row].copy()

    def mask(self, row: int) -> np.ndarray | None:
        """(H, W) bool in image px: False where the loss must not look (crowds, people without joints). None if it may look everywhere."""
        first, last = self._runs_I[row : row + 2].tolist()
        if first == last:
            return None
        width, height = self.image_size_I2[row].tolist()
        try:
            return ~region_of(self._datasets()[1][first:last], height, width)
        except ValueError as error:
            raise UserError(f"{self.path}: mask of image {self.id_I[row]} has {error}") from None

    def _datasets(self) -> tuple[h5py.Dataset, h5py.Dataset]:
        """Pictures, and run lengths of masks."""
        if self._handle is None or self._handle[0] != os.getpid():
            file = open_h5(self.path)
            self._handle = os.getpid(), file["packed"], file["run"]
        return self._handle[1:]
