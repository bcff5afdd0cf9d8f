"""Annotated images -> `people.h5`, what the single-person problem reads: people with their surroundings.

N people.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from pose.data.formats.coco_json import Entry, keypoints_of
from pose.data.formats.person_table import SPLITS
from pose.data.person_set import FILE
from pose.data.prepare.annotated import Image, check_splits, note_exif, read_annotated, usable
from pose.data.prepare.packing import (
    SURROUNDINGS,
    pack_images,
    pack_surroundings,
    write_columns,
)
from pose.data.prepare.summary import Summary
from pose.io.files import atomic_write
from pose.io.hdf5 import create_h5
from pose.keypoints.skeleton import Skeleton
from pose.params import PrepareParams

OUTSIDE = "people outside the image"


@dataclass(frozen=True, slots=True)
class Info:
    """Of an image: its people who are packed, the affine to the packed pixels of each, a note on its EXIF."""

    people: list[Entry]
    affines: list[np.ndarray]
    exif: str


def write_people(
    folder: Path,
    images: Sequence[Image],
    skeleton: Skeleton,
    *,
    root: Path,
    params: PrepareParams,
    workers: int | None,
    summary: Summary,
    before: Callable[[list[Image]], None],
) -> list[Image]:
    """Write the people with joints of the images that can be used, atomically, and return these images.

    root: what names of images are relative to. before: is called with the images before the file is there.
    UserError if a split has nobody.
    """
    images = [image for image in images if image.people]
    most = sum(len(image.people) for image in images)
    with atomic_write(folder / FILE) as temporary, create_h5(temporary) as file:
        pack_one = partial(pack, params=params)
        packed = pack_images(file, images, pack_one, most=most, workers=workers, summary=summary)
        pairs = [*zip(*usable(images, packed, summary), strict=True)]
        for image, info in pairs:
            if outside := len(image.people) - len(info.people):
                summary.left_out[image.split, OUTSIDE] += outside
        pairs = [(image, info) for image, info in pairs if info.people]
        kept, infos = [image for image, _ in pairs], [info for _, info in pairs]
        check_splits(kept, summary, root)
        note_exif(kept, [info.exif for info in infos], summary)
        _write_columns(file, kept, infos, skeleton, root)
        file.flush()
        before(kept)
    return kept


def pack(image: Image, params: PrepareParams) -> tuple[list[bytes], Info]:
    """The people's surroundings as JPEG bytes, and `Info`; Unusable as of `read_annotated`."""
    found = read_annotated(image, params.coco)
    people, packed, affines = [], [], []
    for person in image.people:
        x, y, width, height = person["bbox"]
        centre_xy, side = (
            np.array([x + (width - 1) / 2, y + (height - 1) / 2]),
            SURROUNDINGS * max(width, height),
        )
        data = b"" if found.is_turned else found.data
        one = pack_surroundings(data, found.image_HW3, centre_xy, side, params) if side > 0 else None
        if one:
            people.append(person)
            packed.append(one[0])
            affines.append(one[1])
    return packed, Info(people, affines, found.exif)


def _write_columns(
    file: h5py.File, images: Sequence[Image], infos: Sequence[Info], skeleton: Skeleton, root: Path
) -> None:
    rows = [
        (image, number, person, affine)
        for image, info in zip(images, infos, strict=True)
        for number, (person, affine) in enumerate(zip(info.people, info.affines, strict=True))
    ]
    names = [image.file.path.relative_to(root).as_posix() for image, *_ in rows]
    people = [person for _, _, person, _ in rows]
    columns: dict[str, np.ndarray] = {
        "packed_affine": np.array([affine for *_, affine in rows]),
        "image": np.array([image.entry["id"] for image, *_ in rows], dtype=np.int64),
        "name": np.array(names, dtype=h5py.string_dtype()),
        "split": np.array([SPLITS.index(image.split) for image, *_ in rows], dtype=np.uint8),
        "image_size": np.array([image.size_wh for image, *_ in rows], dtype=np.int64),
        "person": np.array([number for _, number, *_ in rows], dtype=np.int64),
        "keypoint": keypoints_of(people, len(skeleton)),
        "box": np.array([person["bbox"] for person in people], dtype=np.float64),
        "annotation": np.array([person["id"] for person in people], dtype=np.int64),
        "head_size": np.array([person.get("head_size", np.nan) for person in people], dtype=np.float64),
    }
    file.attrs["skeleton"] = skeleton.model_dump_json()
    write_columns(file, columns, names={"split": SPLITS})
