"""HDF5 files, written, opened or refused by name, and numbers of files that others have made."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def create_h5(temporary: Path) -> Iterator[h5py.File]:
    """A new HDF5 file to fill, within `atomic_write`; OSError, as of other files, if it cannot be written."""
    try:
        file = h5py.File(temporary, "w")
        try:
            yield file
            file.flush()
        except BaseException:
            _close_unwritten(file)
            raise
        file.close()
    except (OSError, RuntimeError) as error:
        if refused := re.search(r"file write failed.* errno = (\d+)", str(error), re.DOTALL):
            raise OSError(int(refused[1]), os.strerror(int(refused[1])), str(temporary)) from None
        raise


def write_column(file: h5py.File, name: str, values: np.ndarray) -> h5py.Dataset:
    """A dataset without the time of writing, so that equal data is an equal file."""
    dataset = file.create_dataset(name, data=values, track_times=False)
    dataset.flush()  # a full disk is an error here; as the data set is let go, h5py would only print one
    return dataset


def _close_unwritten(file: h5py.File) -> None:
    """Close a file for which there is no room: HDF5 crashes later if it cannot write what it still holds."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, file.id.get_vfd_handle())
    os.close(nowhere)
    with suppress(RuntimeError):  # of the write that failed
        file.close()


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
