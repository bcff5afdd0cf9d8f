"""What both preparations do with images: read and pack them in threads, write them, leave out by name."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import h5py
import numpy as np
from tqdm.auto import tqdm

from pose.data.prepare.summary import IMAGE_UNREADABLE, Summary
from pose.data.prepared_set import IMAGES
from pose.data.threads import cores, one_opencv_thread
from pose.io.errors import UserError
from pose.io.files import read_bytes
from pose.io.hdf5 import write_column
from pose.io.images import decode_image, encode_jpeg, is_jpeg, shrink
from pose.params import PrepareParams

CHUNK = 256  # images whose places in the file lie together
AHEAD = 256  # images that are being read, or wait to be written
# An image is kept as it came, without a second compression, if cropping saves less than half of its pixels
# and shrinking less than 0.4 of its sides.
KEEP_SHARE, KEEP_ZOOM = 0.5, 0.6

Job = TypeVar("Job")
Info = TypeVar("Info")


class Unusable(UserError):
    """An image that is left out. reason: for the summary's table; the message names the image."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def chosen(name_N: np.ndarray, share: float, seed: int) -> np.ndarray:
    """(N,) bool: about this share of the images, by a hash of the name, whichever others are present."""
    digests = (hashlib.sha256(f"{seed} {name}".encode()).digest() for name in name_N)
    return np.array([int.from_bytes(digest[:8], "big") < share * 2.0**64 for digest in digests], dtype=bool)


def read_raw_image(path: Path, *, upright: bool = False) -> tuple[bytes, np.ndarray]:
    """The content of an image file, and its pixels as of `decode_image`; Unusable if it cannot be read."""
    try:
        data = read_bytes(path, "an image")
        return data, decode_image(data, str(path), upright=upright)
    except UserError as error:
        raise Unusable(IMAGE_UNREADABLE, str(error)) from None


def pack_surroundings(
    data: bytes, image_HW3: np.ndarray, centre_xy: np.ndarray, side: float, params: PrepareParams
) -> tuple[bytes, np.ndarray] | None:
    """The square of `side` px around a person as a JPEG of at most about `pack_size` px a side.

    data: the image's file. image_HW3: the same, decoded. centre_xy: zero-based px. Returns the JPEG's bytes
    and the affine (2, 3) from image px to its px, None if the square lies outside the image.
    """
    size_wh = np.array(image_HW3.shape[1::-1])
    # Half-pixel centres: pixel i reaches from i - 0.5 to i + 0.5.
    low_xy = np.clip(np.floor(centre_xy - side / 2 + 0.5), 0, size_wh).astype(int)
    high_xy = np.clip(np.ceil(centre_xy + side / 2 + 0.5), 0, size_wh).astype(int)
    crop_wh = high_xy - low_xy
    if crop_wh.min() < 1:
        return None
    zoom = min(1.0, params.pack_size / side)
    if is_jpeg(data) and zoom > KEEP_ZOOM and crop_wh.prod() > KEEP_SHARE * size_wh.prod():
        return data, np.eye(2, 3)
    crop_HW3 = np.ascontiguousarray(image_HW3[low_xy[1] : high_xy[1], low_xy[0] : high_xy[0]])
    packed_HW3, affine = shrink(crop_HW3, zoom)
    affine[:, 2] = (0.5 - low_xy) * affine.diagonal() - 0.5  # from the image's px, not the crop's
    return encode_jpeg(packed_HW3, params.jpeg_quality), affine


def pack_images(
    file: h5py.File,
    jobs: Sequence[Job],
    pack: Callable[[Job], tuple[list[bytes], Info]],
    *,
    most: int,
    workers: int | None,
    summary: Summary,
) -> list[Info | Unusable]:
    """Write the encoded images that `pack` makes of every job, in order, one a row.

    pack: also returns what is to be known of them, or raises Unusable. most: images at most. workers: threads
    (decoding, resizing and encoding release Python's lock), one per core if None. Returns of each job what is
    to be known of its images, or why it has none, which the summary names too.
    """

    def attempt(job: Job) -> tuple[list[bytes], Info | Unusable]:
        try:
            return pack(job)
        except Unusable as error:
            return [], error

    encoded_type = h5py.vlen_dtype(np.uint8)
    images = file.create_dataset(
        IMAGES, (most,), encoded_type, maxshape=(None,), chunks=(CHUNK,), track_times=False
    )
    kept, infos = 0, []
    with in_threads(attempt, jobs, "packing", workers) as packed:
        for encoded, info in packed:
            for data in encoded:  # row by row: of several images of one length h5py would make a table
                images[kept] = np.frombuffer(data, dtype=np.uint8)
                kept += 1
            infos.append(info)
    images.resize((kept,))
    images.flush()  # as in `write_column`
    summary.unusable += [str(info) for info in infos if isinstance(info, Unusable)]
    return infos


@contextmanager
def in_threads(
    work: Callable[[Job], Info], jobs: Sequence[Job], name: str, workers: int | None = None
) -> Iterator[Iterator[Info]]:
    """The results of OpenCV's work on images, in order, with a progress bar.

    workers: threads, one per core if None. What was not begun when the block is left is dropped.
    """
    with one_opencv_thread(), ThreadPoolExecutor(workers or cores()) as pool:
        try:
            yield iter(tqdm(_ahead(pool, work, jobs), name, len(jobs), unit="image", disable=None))
        finally:
            pool.shutdown(cancel_futures=True)


def _ahead(pool: ThreadPoolExecutor, work: Callable[[Job], Info], jobs: Iterable[Job]) -> Iterator[Info]:
    """As `pool.map`, which would at once take memory for every job."""
    waiting: deque[Future[Info]] = deque()
    for job in jobs:
        if len(waiting) == AHEAD:
            yield waiting.popleft().result()
        waiting.append(pool.submit(work, job))
    while waiting:
        yield waiting.popleft().result()


def write_columns(
    file: h5py.File, columns: Mapping[str, np.ndarray], *, names: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Columns without the time of writing, so that equal data is an equal file.

    names: of columns that hold indices, what these stand for; see `read_names`.
    """
    for name, values in columns.items():
        write_column(file, name, values)
    for name, words in (names or {}).items():
        file[name].attrs["names"] = np.array(words, dtype="S")
