"""What both prepared sets are: an HDF5 file of columns and of images packed as JPEG, one row an image.

N rows, H W px. This project wrote the file: its content is trusted.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pose.io.errors import reading
from pose.io.hdf5 import open_h5
from pose.io.images import decode_image
from pose.keypoints.skeleton import read_skeleton

IMAGES_FILE = "coco.h5"  # of a prepared set of whole images
IMAGES = "packed"  # the dataset of the images


def annotation_file(folder: str | Path, split: str) -> Path:
    """The COCO annotations of a split in a prepared folder."""
    return Path(folder) / "annotations" / f"{split}.json"


class PreparedSet(ABC):
    """Reader of a prepared file: columns as numpy arrays, images as they are asked for.

    skeleton: of the joints. Every process opens the file for itself, since loader workers must not share a
    handle. UserError, naming the file, if it is missing, damaged or something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, h5py.File] | None = None
        with open_h5(path) as file, reading(path, "a prepared set (prepare it again)"):
            self.skeleton = read_skeleton(file.attrs["skeleton"], f"{path}: skeleton")
            self._splits: tuple[str, ...] = tuple(file["split"].attrs["names"].astype(str))
            self._split_N = read_names(file, "split")
            self._affine_N23: np.ndarray = file["packed_affine"][()]
            self._read_columns(file)

    @abstractmethod
    def _read_columns(self, file: h5py.File) -> None:
        """Read what only this kind of set has."""

    @abstractmethod
    def name(self, row: int) -> str:
        """Name of the image, relative to the data root."""

    def __len__(self) -> int:
        return len(self._split_N)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)

    def annotations(self, split: str) -> Path:
        """COCO's annotations of the split, beside the file, for pycocotools; `lsp_mpii.h5` has none."""
        return annotation_file(self.path.parent, split)

    def rows(self, split: str) -> np.ndarray:
        """Indices of the rows of a split."""
        if split not in self._splits:
            raise ValueError(f"no split {split!r}, expected one of {', '.join(self._splits)}")
        return np.flatnonzero(self._split_N == split)

    def image(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """The image as packed, (H, W, 3) uint8 RGB, and the affine (2, 3) from image px to its px."""
        return next(self.images([row]))

    def images(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`image` of each of these rows, read at once, since most of HDF5's time is spent per call."""
        with reading(self.path, "a prepared set"):
            packed = self._file()[IMAGES]
            selected = packed.id.get_space()
            selected.select_elements(np.asarray(rows, dtype=np.uint64)[:, None])
            data_B = np.empty(len(rows), dtype=packed.dtype)
            packed.id.read(h5py.h5s.create_simple(data_B.shape), selected, data_B)
        for row, data in zip(rows, data_B, strict=True):
            yield (
                decode_image(data.tobytes(), f"{self.path}: image of row {row}", packed=True),
                self._affine_N23[row].copy(),
            )

    def _file(self) -> h5py.File:
        """The file as this process has opened it."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), open_h5(self.path)
        return self._opened[1]


def read_names(file: h5py.File, name: str) -> np.ndarray:
    """A column of names, which the file holds as indices into the dataset's attribute `names`."""
    names_N: np.ndarray = file[name].attrs["names"].astype(str)[file[name][()]]
    return names_N


def read_keypoints(file: h5py.File) -> tuple[np.ndarray, np.ndarray]:
    """COCO's keypoints: (N, K, 2) image px, NaN where unlabelled, and (N, K) bool, labelled."""
    keypoint_NK3 = file["keypoint"][()]
    labelled_NK = keypoint_NK3[..., 2] > 0
    return np.where(labelled_NK[..., None], keypoint_NK3[..., :2], np.nan), labelled_NK
