"""HDF5 files of the prepared sets: columns of one length, checked as they are read, and encoded images.

A few bytes of a file can declare any size, or lead to other files: neither is followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from pose.io.errors import UserError
from pose.io.files import check_regular_file

CHUNK = 256  # images whose places in the file lie together
MAX_NUMBERS = 2**26  # of a column: room for five times COCO's people
MAX_INTEGER = 2**53  # up to it every integer is a float too
MAX_DEFLATED = 1100  # bytes of numbers for one in the file: deflate cannot do better
IMAGES = "packed"
_PLACE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])  # of an image in the file


def open_h5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading; UserError if there is none, or if it is something else or cut short."""
    check_regular_file(path, "an HDF5 file of annotated people")
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as HDF5 ({' '.join(str(error).split())})") from None


class OncePerProcess:
    """Datasets of a file that each process opens for itself: loader workers must not share a handle."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._opened: tuple[int, h5py.File] | None = None

    def __getitem__(self, name: str) -> h5py.Dataset:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), open_h5(self._path)
        with naming(self._path, name):
            return self._opened[1][name]


@contextmanager
def naming(path: str | Path, name: str) -> Iterator[None]:
    """What HDF5 raises as it reads a dataset is a UserError that names the file and the dataset."""
    try:
        yield
    except UserError:
        raise
    except MemoryError:
        raise UserError(f"{path}: dataset {name!r} cannot be read (larger than the memory)") from None
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: dataset {name!r} cannot be read ({reason})") from None


def checked_dataset(file: h5py.File, name: str, shape: tuple[int | None, ...]) -> h5py.Dataset:
    """A dataset by name, not yet read; UserError if it is missing or has another shape (None: any length).

    Links and data elsewhere are errors too: a downloaded file could read any other file of the user's.
    """
    expected = f"expected {name} of shape {shown_shape(shape)}"
    with naming(file.filename, name):
        link = file.get(name, getlink=True)
        if link is None:
            found = ", ".join(sorted(file)[:20]) or "none"
            raise UserError(f"{file.filename}: no dataset {name!r}, found {found}, {expected}")
        if not isinstance(link, h5py.HardLink):
            raise UserError(f"{file.filename}: dataset {name!r} is a link, expected the data itself")
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise UserError(f"{file.filename}: {name!r} is not a dataset within this file, {expected}")
        found_shape = dataset.shape or ()
    fits = [want in (None, have) for want, have in zip(shape, found_shape, strict=False)]
    if len(found_shape) != len(shape) or not all(fits):
        has = f"has shape {found_shape}, expected {shown_shape(shape)}"
        raise UserError(f"{file.filename}: dataset {name!r} {has}")
    return dataset


def read_column(file: h5py.File, name: str, shape: tuple[int | None, ...], kinds: str = "") -> np.ndarray:
    """A dataset as an array; UserError as of `checked_dataset`, or if it declares more than the file holds.

    kinds: of numpy's, those that it may hold; all if empty.
    """
    dataset = checked_dataset(file, name, shape)
    where = f"{file.filename}: dataset {name!r}"
    with naming(file.filename, name):
        dtype, size, stored = dataset.dtype, dataset.size, dataset.id.get_storage_size()
        if size > MAX_NUMBERS or size * dtype.itemsize > MAX_DEFLATED * max(stored, 8):
            found = f"{size:,} entries in {stored:,} bytes"
            raise UserError(f"{where} declares {found}, expected all of them, at most {MAX_NUMBERS:,}")
        if kinds and dtype.kind not in kinds:
            raise UserError(f"{where} holds {dtype}, expected numbers")
        values: np.ndarray = dataset[()]
    return values


def read_number_column(file: h5py.File, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """A dataset of numbers as float64; UserError as of `read_column`."""
    return read_column(file, name, shape, kinds="fiub").astype(np.float64)


def read_whole_column(
    file: h5py.File,
    name: str,
    shape: tuple[int | None, ...],
    *,
    least: int = -MAX_INTEGER,
    most: int = MAX_INTEGER,
) -> np.ndarray:
    """A dataset of integers from `least` to `most` as int64; UserError as of `read_column`, or for others."""
    values = read_number_column(file, name, shape)
    if not ((values >= least) & (values <= most) & (values == np.floor(values))).all():
        expected = f"expected integers from {least:,} to {most:,}"
        raise UserError(f"{file.filename}: dataset {name!r} holds other numbers, {expected}")
    return values.astype(np.int64)


def read_affine_column(file: h5py.File, name: str, rows: int) -> np.ndarray:
    """A column of invertible affines (rows, 2, 3); UserError as of `read_column`, or for others."""
    affine_N23 = read_number_column(file, name, (rows, 2, 3))
    with np.errstate(all="ignore"):
        determinant_N = np.linalg.det(affine_N23[:, :, :2])
    if not (np.isfinite(affine_N23).all() and np.isfinite(determinant_N).all() and determinant_N.all()):
        raise UserError(f"{file.filename}: dataset {name!r} holds others than invertible affines")
    return affine_N23


def read_code_column(file: h5py.File, name: str, rows: int, names: tuple[str, ...]) -> np.ndarray:
    """A column of indices into `names`, which its attribute `names` must list; UserError for others."""
    index_N = read_column(file, name, (rows,), kinds="ui")
    with naming(file.filename, name):
        listed = file[name].attrs.get("names", ())
    words = listed.ravel()[: len(names) + 1] if isinstance(listed, np.ndarray) else ()
    stored = tuple(
        word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in words
    )
    if stored != names or (rows and not 0 <= int(index_N.min()) <= int(index_N.max()) < len(names)):
        raise UserError(
            f"{file.filename}: dataset {name!r} holds codes of {stored}, expected those of {names}"
        )
    return index_N


def read_text_attribute(file: h5py.File, name: str) -> str:
    """A text attribute of the file; UserError if it is missing or something else."""
    with naming(file.filename, name):
        value = file.attrs.get(name)
    if not isinstance(value, str):
        found = "none" if value is None else type(value).__name__
        raise UserError(
            f"{file.filename}: attribute {name!r}: found {found}, expected text (prepare it again)"
        )
    return value


def check_images(file: h5py.File, rows: int) -> None:
    """UserError unless there are so many images, as of `create_images`, and no longer ones than the file."""
    dataset = checked_dataset(file, IMAGES, (rows,))
    where = f"{file.filename}: dataset {IMAGES!r}"
    with naming(file.filename, IMAGES):
        filtered = dataset.id.get_create_plist().get_nfilters() > 0
        if h5py.check_vlen_dtype(dataset.dtype) != np.uint8 or dataset.chunks is None or filtered:
            raise UserError(
                f"{where} holds {dataset.dtype}, expected encoded images as this project packs them"
            )
        # HDF5 makes room for whatever length a row declares. The lengths are in the table of places, which
        # is read here as it is stored.
        length = 0
        for first in range(0, rows, dataset.chunks[0]):
            places = np.frombuffer(dataset.id.read_direct_chunk((first,))[1], dtype=_PLACE)[: rows - first]
            length += int(places["length"].sum(dtype=np.int64))
        if length > os.path.getsize(file.filename):
            raise UserError(
                f"{where} declares {length:,} bytes of images, expected no more than the file has"
            )


def create_images(file: h5py.File, most: int) -> h5py.Dataset:
    """A dataset for the encoded images of at most that many rows, to be written row by row and then resized.

    Row by row: of several images of one length h5py would make a table.
    """
    return file.create_dataset(
        IMAGES, (most,), maxshape=(None,), chunks=(CHUNK,), dtype=h5py.vlen_dtype(np.uint8), track_times=False
    )


def write_columns(
    file: h5py.File,
    columns: Mapping[str, np.ndarray],
    *,
    codes: Mapping[str, Sequence[str]] | None = None,
    attributes: Mapping[str, str] | None = None,
) -> None:
    """Columns without the time of writing, so that equal data is an equal file.

    codes: the names of columns that `read_code_column` reads. attributes: texts of the file.
    """
    file.attrs.update(attributes or {})
    for name, values in columns.items():
        file.create_dataset(name, data=values, track_times=False)
    for name, names in (codes or {}).items():
        file[name].attrs["names"] = np.array(names, dtype="S")


def shown_shape(shape: tuple[int | None, ...]) -> str:
    """A shape for a message; None is any length."""
    return str(shape).replace("None", "N")
