"""HDF5 files, opened or refused by name, and numbers of files that others have made."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from pose.io.errors import UserError, reading
from pose.io.files import check_regular_file


def open_h5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading; UserError if there is none, or if it is something else or cut short."""
    check_regular_file(path, "an HDF5 file of annotated people")
    with reading(path, "HDF5"):
        return h5py.File(path, "r")


def read_number_column(file: h5py.File, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """A dataset of numbers as float64; UserError if it is missing or of another shape (None: any length).

    Links and data elsewhere are errors too: a downloaded file could read any other file of the user's.
    """
    where = f"{file.filename}: dataset {name!r}"
    expected = f"numbers of shape {str(shape).replace('None', 'N')}"
    with reading(where, expected):
        link = file.get(name, getlink=True)
        if link is None:
            raise UserError(
                f"{where} is missing, found {', '.join(file)[:200] or 'none'}, expected {expected}"
            )
        dataset = file[name] if isinstance(link, h5py.HardLink) else None
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise UserError(f"{where} is a link, a group or data of another file, expected {expected}")
        found_shape = dataset.shape or ()
        fits = [want in (None, found) for want, found in zip(shape, found_shape, strict=False)]
        if len(found_shape) != len(shape) or not all(fits) or dataset.dtype.kind not in "fiub":
            raise UserError(f"{where} holds {dataset.dtype} of shape {found_shape}, expected {expected}")
        values: np.ndarray = dataset[()].astype(np.float64)
    return values
