"""HDF5 files as the prepared sets use them.

Columns of one length, checked as they are read, and pictures packed one a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from pose.io.errors import UserError

CHUNK = 256  # pictures whose places in the file lie together
# Of a dataset that is read whole: room for five times COCO's people. A few bytes of a file can declare any
# number of them.
MOST_NUMBERS = 2**26
LARGEST = 2**53  # whole numbers up to it are floats too
IMAGES = "packed"
_PLACE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])  # of a picture in the file
MOST_PACKED = 1100  # numbers' bytes for one in the file: deflate cannot do better, and what was never written takes none


def open_h5(path: str | Path) -> h5py.File:
    """Open an HDF5 file for reading; UserError if there is none, or if it is something else or cut short."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file, expected an HDF5 file of annotated people")
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as HDF5 ({' '.join(str(error).split())})") from None


class OncePerProcess:
    """Datasets of a file that each process opens for itself.

    Loader workers, forked or spawned, must not share a handle.
    """

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
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, MemoryError) as error:
        reason = (
            " ".join(str(error).split()) if not isinstance(error, MemoryError) else "larger than can be had"
        )
        raise UserError(f"{path}: dataset {name!r} cannot be read ({reason})") from None


def read_column(file: h5py.File, name: str, shape: tuple[int | None, ...], kinds: str = "") -> np.ndarray:
    """A whole dataset; UserError if it is missing, lies outside the file, is larger than it can be, or its shape is not `shape` (None: any
    length). kinds: of numpy's, those that it may hold, all if empty."""
    dataset = checked_dataset(file, name, shape)
    with naming(file.filename, name):
        dtype, size, stored = dataset.dtype, dataset.size, dataset.id.get_storage_size()
        if size > MOST_NUMBERS or size * dtype.itemsize > MOST_PACKED * max(stored, 8):
            found = f"{size:,} entries in {stored:,} bytes"
            raise UserError(
                f"{file.filename}: dataset {name!r} declares {found}, expected all of them there and at most {MOST_NUMBERS:,}"
            )
        if kinds and dtype.kind not in kinds:
            raise UserError(f"{file.filename}: dataset {name!r} holds {dtype}, expected numbers")
        values: np.ndarray = dataset[()]
    return values


def checked_dataset(file: h5py.File, name: str, shape: tuple[int | None, ...]) -> h5py.Dataset:
    """A dataset by name, checked as `read_column` says, not yet read."""
    expected = shown_shape(shape)
    with naming(file.filename, name):
        link = file.get(name, getlink=True)
        if link is None:
            found = ", ".join(sorted(file)[:20]) or "none"
            raise UserError(
                f"{file.filename}: no dataset {name!r}, found {found}, expected {name} of shape {expected}"
            )
        # A link or raw data elsewhere would let a downloaded file read any other file of the user's.
        if not isinstance(link, h5py.HardLink):
            raise UserError(f"{file.filename}: dataset {name!r} is a link, expected the data itself")
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
            raise UserError(
                f"{file.filename}: {name!r} is not a dataset within this file, expected {name} of shape {expected}"
            )
        found_shape = dataset.shape or ()
    if len(found_shape) != len(shape) or any(
        want not in (None, have) for want, have in zip(shape, found_shape, strict=True)
    ):
        raise UserError(f"{file.filename}: dataset {name!r} has shape {found_shape}, expected {expected}")
    return dataset


def check_images(file: h5py.File, rows: int) -> None:
    """UserError if there are not so many encoded pictures, as `create_images` makes room for them, or longer ones than the file."""
    dataset = checked_dataset(file, IMAGES, (rows,))
    with naming(file.filename, IMAGES):
        packed = dataset.id.get_create_plist().get_nfilters() > 0
        if h5py.check_vlen_dtype(dataset.dtype) != np.uint8 or dataset.chunks is None or packed:
            raise UserError(
                f"{file.filename}: dataset {IMAGES!r} holds {dataset.dtype}, expected encoded pictures as this project packs them"
            )
        # HDF5 makes room for whatever length a row declares; that stands in the table of their places, which
        # is read as it is.
        length = 0
        for first in range(0, rows, dataset.chunks[0]):
            places = np.frombuffer(dataset.id.read_direct_chunk((first,))[1], dtype=_PLACE)[: rows - first]
            length += int(places["length"].sum(dtype=np.int64))
        if length > os.path.getsize(file.filename):
            raise UserError(
                f"{file.filename}: dataset {IMAGES!r} declares {length:,} bytes of pictures, expected no more than the file has"
            )


def read_number_column(file: h5py.File, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """A whole dataset of numbers as float64; UserError as `read_column` says, or if it holds something else."""
    return read_column(file, name, shape, kinds="fiub").astype(np.float64)


def read_whole_column(
    file: h5py.File, name: str, shape: tuple[int | None, ...], *, least: int = -LARGEST, most: int = LARGEST
) -> np.ndarray:
    """A whole dataset of whole numbers as int64, none below `least` or above `most`; UserError as `read_number_column` says."""
    values = read_number_column(file, name, shape)
    if not ((values >= least) & (values <= most) & (values == np.floor(values))).all():
        expected = f"from {least:,} to {most:,}"
        raise UserError(f"{file.filename}: dataset {name!r} holds other numbers than whole ones {expected}")
    return values.astype(np.int64)


def read_affine_column(file: h5py.File, name: str, rows: int) -> np.ndarray:
    """A column of affines (rows, 2, 3) that can be undone; UserError as `read_number_column` says."""
    affine_N23 = read_number_column(file, name, (rows, 2, 3))
    with np.errstate(over="ignore", invalid="ignore"):
        determinant_N = affine_N23[:, 0, 0] * affine_N23[:, 1, 1] - affine_N23[:, 0, 1] * affine_N23[:, 1, 0]
    if not (
        np.isfinite(affine_N23).all() and np.isfinite(determinant_N).all() and (determinant_N != 0).all()
    ):
        raise UserError(
            f"{file.filename}: dataset {name!r} holds other numbers than affines that can be undone"
        )
    return affine_N23


def read_code_column(file: h5py.File, name: str, rows: int, names: tuple[str, ...]) -> np.ndarray:
    """A column of indices into `names`, which its attribute `names` must list as we know them."""
    index_N = read_column(file, name, (rows,), kinds="ui")
    with naming(file.filename, name):
        listed = file[name].attrs.get("names", ())
    words = listed.ravel()[: len(names) + 1] if isinstance(listed, np.ndarray) else ()
    stored = tuple(
        word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in words
    )
    if stored != names or (rows and not 0 <= int(index_N.min()) <= int(index_N.max()) < len(names)):
        raise UserError(
            f"{file.filename}: dataset {name!r} holds codes of {stored}, expected codes of {names}"
        )
    return index_N


def read_text_attribute(file: h5py.File, name: str) -> str:
    """A text attribute of the file; UserError if it is missing or something else."""
    with naming(file.filename, name):
        value = file.attrs.get(name)
    if not isinstance(value, str):
        found = "none" if value is None else type(value).__name__
        raise UserError(
            f"{file.filename}: attribute {name!r}: found {found}, expected text (prepare the set again)"
        )
    return value


def write_columns(
    file: h5py.File,
    columns: Mapping[str, np.ndarray],
    *,
    codes: Mapping[str, Sequence[str]] | None = None,
    attributes: Mapping[str, str] | None = None,
) -> None:
    """Columns without the time of writing, so that the same data is the same file.

    codes: of columns that `read_code_column` reads, the names. attributes: texts of the file.
    """
    file.attrs.update(attributes or {})
    for name, values in columns.items():
        file.create_dataset(name, data=values, track_times=False)
    for name, names in (codes or {}).items():
        file[name].attrs["names"] = np.array(names, dtype="S")


def create_images(file: h5py.File, most: int) -> h5py.Dataset:
    """Room for the encoded pictures of `most` rows, to be written row by row, as bytes, and then cut to those there are.

    Row by row: of several pictures of one length h5py would make a table.
    """
    return file.create_dataset(
        IMAGES, (most,), maxshape=(None,), chunks=(CHUNK,), dtype=h5py.vlen_dtype(np.uint8), track_times=False
    )


def shown_shape(shape: tuple[int | None, ...]) -> str:
    """A shape for a message; None is any length."""
    return (
        "("
        + ", ".join("N" if length is None else str(length) for length in shape)
        + ("," if len(shape) == 1 else "")
        + ")"
    )
