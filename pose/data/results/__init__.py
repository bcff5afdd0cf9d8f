"""Formats of files of predictions: one entry each, with its reader and its writer."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py

from pose.data.results import arrays, coco, joint_files
from pose.io.errors import UserError, reading
from pose.io.files import atomic_write, check_regular_file
from pose.io.hdf5 import open_h5
from pose.keypoints.results import Results


@dataclass(frozen=True)
class Format:
    """A format of files of predictions.

    key: the field of `ImageResult` that every image must have to be written; None for one person a row.
    lacks: what a file does not hold. fits: whether a file of one of these suffixes is of this format, by its
    beginning.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path], Results]
    write: Callable[[Path, Results], None]
    key: str | None
    lacks: str = ""
    fits: Callable[[Path], bool] = lambda path: True


def _begins_with(letter: bytes) -> Callable[[Path], bool]:
    def fits(path: Path) -> bool:
        with path.open("rb") as file:
            return file.read(100).removeprefix(codecs.BOM_UTF8).lstrip()[:1] == letter

    return fits


def _has_dataset(name: str) -> Callable[[Path], bool]:
    def fits(path: Path) -> bool:
        if path.suffix.lower() == ".mat" and not h5py.is_hdf5(path):
            return True  # of an older version of MATLAB: the reader says what is missing
        with open_h5(path) as file:
            return name in file

    return fits


NAMELESS = "names of joints, and whose they are but for the order"
FORMATS = {
    "json": Format(
        (".json",),
        joint_files.read_joints_json,
        joint_files.write_joints_json,
        key="file",
        fits=_begins_with(b"{"),
    ),
    "csv": Format(
        (".csv",),
        joint_files.read_joints_csv,
        joint_files.write_joints_csv,
        key="file",
        lacks="sizes of images, and images without people",
    ),
    "coco": Format(
        (".json",),
        coco.read_coco,
        coco.write_coco,
        key="image_id",
        lacks="names of joints, which of them were not found, and ids over a film",
        fits=_begins_with(b"["),
    ),
    "rows": Format(
        (".h5", ".hdf5"),
        arrays.read_rows,
        arrays.write_rows,
        key="row",
        lacks="names of images",
        fits=_has_dataset("row"),
    ),
    "preds": Format(
        (".mat", ".h5", ".hdf5"),
        arrays.read_preds,
        arrays.write_preds,
        key=None,
        lacks=f"confidences, {NAMELESS}",
        fits=_has_dataset(arrays.PREDS),
    ),
    "numpy": Format((".npy", ".npz"), arrays.read_numpy, arrays.write_numpy, key=None, lacks=NAMELESS),
}
SUFFIXES = sorted({suffix for one in FORMATS.values() for suffix in one.suffixes})


def read_results(path: Path) -> Results:
    """Predictions of any of the formats; UserError, naming the file, for anything else."""
    check_regular_file(path, "predictions")
    of_suffix = {name: one for name, one in FORMATS.items() if path.suffix.lower() in one.suffixes}
    with reading(path, "predictions"):
        for format in of_suffix.values():
            if format.fits(path):
                return format.read(path)
    found = f"a file {path.suffix or 'without suffix'}" + (" of another content" if of_suffix else "")
    raise UserError(f"{path}: found {found}, expected predictions: {', '.join(of_suffix or SUFFIXES)}")


def write_results(path: Path, results: Results, format: str) -> None:
    """Write predictions, atomically. `check_content` first, unless they are known to fit."""
    with atomic_write(path) as temporary:
        FORMATS[format].write(temporary, results)


def check_content(results: Results, format: str) -> None:
    """UserError if the format cannot hold these predictions."""
    kind = FORMATS[format]
    for number, one in enumerate(results.images, start=1):
        name = one.file or (f"image {one.image_id}" if one.image_id is not None else f"number {number}")
        if kind.key and getattr(one, kind.key) is None:
            found = f"{results.path}: found no {kind.key} of {name}"
            raise UserError(f"{found}, expected one for format {format}; --truth may tell it")
        if kind.key == "image_id" and one.frame is not None:
            raise UserError(f"{results.path}: found frame {one.frame} of a video, format {format} has images")
        if kind.key in (None, "row") and len(one.people) != 1:
            found = f"{len(one.people)} people in {name}"
            raise UserError(
                f"{results.path}: found {found}, expected one: format {format} has one person a row"
            )
    if kind.key == "file" and results.skeleton is None and len(results):
        raise UserError(
            f"{results.path}: found no names of joints, expected them for format {format} (--skeleton)"
        )


def format_of(path: Path, format: str | None) -> str:
    """The format to write to a path: the one named, else the first of its suffix; UserError without one."""
    fitting = [name for name, one in FORMATS.items() if path.suffix.lower() in one.suffixes]
    if not fitting:
        raise UserError(f"{path}: found suffix {path.suffix!r}, expected one of {', '.join(SUFFIXES)}")
    if format and format not in fitting:
        raise UserError(f"--format: found {format} for {path}, expected {' or '.join(fitting)}")
    return format or fitting[0]
