"""The prepared file `lsp_mpii.h5`: people of LSP, LSPET and MPII with their surroundings in the image.

N rows, K joints, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pose.data.formats.person_table import PERSON_HEIGHT, SOURCES, SPLITS, is_labelled, is_placed, zero_based
from pose.data.formats.published_h5 import NAME_LENGTH, decode_name
from pose.io.errors import UserError
from pose.io.hdf5 import (
    IMAGES,
    OncePerProcess,
    check_images,
    naming,
    open_h5,
    read_affine_column,
    read_code_column,
    read_number_column,
    read_text_attribute,
    read_whole_column,
)
from pose.io.images import MAX_PIXELS, decode_image
from pose.keypoints.skeleton import read_skeleton

__all__ = ["PERSON_HEIGHT", "PersonSet"]


class PersonSet:
    """Reader of the prepared file: columns as numpy arrays, images read as they are asked for.

    joint_NK2: zero-based image px, NaN where unlabelled. labelled_NK: bool. visible_NK: 1 seen, 0 occluded.
    centre_N2: zero-based image px (MPII's objpos; its crops lie 15 * scale px lower, see FEET_SHIFT).
    scale_N: height / 200 px. head_size_N: px or NaN. source_N, split_N: str, of SOURCES and SPLITS.
    image_size_N2: width, height. person_N: index in its image. istrain_N: published code.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._datasets = OncePerProcess(self.path)
        with open_h5(self.path) as file:
            self._code_N50 = read_number_column(file, "imgname", (None, NAME_LENGTH))
            num = len(self._code_N50)
            source_N = read_code_column(file, "source", num, SOURCES)
            self.skeleton = read_skeleton(read_text_attribute(file, "skeleton"), f"{self.path}: skeleton")
            joints = len(self.skeleton)
            part_NK2 = read_number_column(file, "part", (num, joints, 2))
            self.labelled_NK: np.ndarray = is_labelled(part_NK2)
            self.joint_NK2: np.ndarray = np.where(
                self.labelled_NK[..., None], zero_based(source_N, part_NK2), np.nan
            )
            self.visible_NK: np.ndarray = read_number_column(file, "visible", (num, joints))
            self.centre_N2: np.ndarray = zero_based(source_N, read_number_column(file, "center", (num, 2)))
            self.scale_N: np.ndarray = read_number_column(file, "scale", (num,))
            self.istrain_N: np.ndarray = read_whole_column(file, "istrain", (num,))
            self.head_size_N: np.ndarray = read_number_column(file, "head_size", (num,))
            self.source_N: np.ndarray = np.array(SOURCES)[source_N]
            self.split_N: np.ndarray = np.array(SPLITS)[read_code_column(file, "split", num, SPLITS)]
            self.image_size_N2: np.ndarray = read_whole_column(
                file, "image_size", (num, 2), least=0, most=MAX_PIXELS
            )
            self.person_N: np.ndarray = read_whole_column(file, "person", (num,))
            self._affine_N23 = read_affine_column(file, "packed_affine", num)
            check_images(file, num)
        placed_N = is_placed(self.centre_N2, self.scale_N)
        if not placed_N.all():
            raise UserError(
                f"{self.path}: row {placed_N.argmin()} has no place,"
                " expected numbers in 'center' and one above 0 in 'scale'"
            )

    def __len__(self) -> int:
        return len(self.scale_N)

    def __reduce__(self) -> tuple[Any, ...]:
        return PersonSet, (self.path,)

    def rows(self, split: str) -> np.ndarray:
        """Indices of the people of a split who have at least one labelled joint."""
        if split not in SPLITS:
            raise ValueError(f"no split {split!r}, expected one of {', '.join(SPLITS)}")
        return np.flatnonzero((self.split_N == split) & self.labelled_NK.any(axis=1))

    def name(self, row: int) -> str:
        """Name of the person's image, relative to the data root."""
        return decode_name(self._code_N50[row], self.path)

    def image(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """The person's surroundings, (H, W, 3) uint8 RGB, and the affine (2, 3) from image px to their px."""
        return next(self.images([row]))

    def images(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """`image` of each of these rows, read at once, since most of HDF5's time is spent per call."""
        packed = self._datasets[IMAGES]
        with naming(self.path, IMAGES):
            selected = packed.id.get_space()
            selected.select_elements(np.asarray(rows, dtype=np.uint64)[:, None])
            data_B = np.empty(len(rows), dtype=packed.dtype)
            packed.id.read(h5py.h5s.create_simple(data_B.shape), selected, data_B)
        for row, data in zip(rows, data_B, strict=True):
            image_HW3 = decode_image(data.tobytes(), f"{self.path}: image of row {row}")
            yield image_HW3, self._affine_N23[row].copy()
