"""HDF5 files as the prepared sets use them: columns of one length, checked as they are read, and pictures packed one a row."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from pose.errors import UserError

CHUNK = 256  # pictures whose places in the file lie together


def open_h5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading; UserError if there is none, or if it is something else or cut short."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file, expected an HDF5 file of annotated people")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path}: cannot be read as HDF5 ({error})") from None


class OncePerProcess:
    """Datasets of a file that each process opens for itself: loader workers, forked or spawned, must not share a handle."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[int, h5py.File] | None = None

    def __getitem__(self, name: str) -> h5py.Dataset:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), open_h5(self._path)
        return self._opened[1][name]


def read_column(file: h5py.File, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """A whole dataset; UserError if it is missing, lies outside the file, or its shape is not `shape` (None: any length)."""
    dataset = checked_dataset(file, name, shape)
    try:
        values: np.ndarray = dataset[()]
    except (OSError, ValueError, MemoryError) as error:
        raise UserError(f"{file.filename}: dataset {name!r} cannot be read ({error})") from None
    return values


def checked_dataset(file: h5py.File, name: str, shape: tuple[int | None, ...]) -> h5py.Dataset:
    """A dataset by name, checked as `read_column` says, not yet read."""
    expected = shown_shape(shape)
    link = file.get(name, getlink=True)
    if link is None:
        found = ", ".join(sorted(file)) or "none"
        raise UserError(f"{file.filename}: no dataset {name!r}, found {found}, expected {name} of shape {expected}")
    # A link or raw data elsewhere would let a downloaded file read any other file of the user's.
    if not isinstance(link, h5py.HardLink):
        raise UserError(f"{file.filename}: dataset {name!r} is a link, expected the data itself")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise UserError(f"{file.filename}: {name!r} is not a dataset within this file, expected {name} of shape {expected}")
    if len(dataset.shape or ()) != len(shape) or any(want not in (None, have) for want, have in zip(shape, dataset.shape, strict=True)):
        raise UserError(f"{file.filename}: dataset {name!r} has shape {dataset.shape}, expected {expected}")
    return dataset


def read_number_column(file: h5py.File, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """A whole dataset of numbers as float64; UserError as `read_column` says, or if it holds something else."""
    values = read_column(file, name, shape)
    if values.dtype.kind not in "fiub":
        raise UserError(f"{file.filename}: dataset {name!r} holds {values.dtype}, expected numbers")
    return values.astype(np.float64)


def read_code_column(file: h5py.File, name: str, rows: int, names: tuple[str, ...]) -> np.ndarray:
    """A column of indices into `names`, which its attribute `names` must list as we know them."""
    index_N = read_column(file, name, (rows,))
    stored = tuple(str(word, "utf-8") if isinstance(word, bytes) else str(word) for word in file[name].attrs.get("names", ()))
    if stored != names or index_N.dtype.kind not in "ui" or (rows and int(index_N.max()) >= len(names)):
        raise UserError(f"{file.filename}: dataset {name!r} holds codes of {stored}, expected codes of {names}")
    return index_N


def write_columns(file: h5py.File, columns: Mapping[str, np.ndarray], codes: Mapping[str, Sequence[str]] | None = None) -> None:
    """Columns without the time of writing: the same data is the same file. codes: of those that `read_code_column` reads, the names."""
    for name, values in columns.items():
        file.create_dataset(name, data=values, track_times=False)
    for name, names in (codes or {}).items():
        file[name].attrs["names"] = np.array(names, dtype="S")


def create_pictures(file: h5py.File, most: int) -> h5py.Dataset:
    """Room for the encoded pictures of `most` rows, to be written row by row, as bytes, and then cut to those there are.

    Row by row: of several pictures of one length h5py would make a table.
    """
    return file.create_dataset("packed", (most,), maxshape=(None,), chunks=(CHUNK,), dtype=h5py.vlen_dtype(np.uint8), track_times=False)


def shown_shape(shape: tuple[int | None, ...]) -> str:
    """A shape for a message; None is any length."""
    return "(" + ", ".join("N" if length is None else str(length) for length in shape) + ("," if len(shape) == 1 else "") + ")"
