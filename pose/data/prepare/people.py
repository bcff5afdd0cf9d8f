"""Annotated images -> `people.h5`, what the single-person problem reads: people with their surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import h5py
import numpy as np

from pose.data.formats.coco_json import keypoints_of
from pose.data.formats.person_table import SPLITS
from pose.data.person_set import FILE
from pose.data.prepare.annotated import Image, Packed, Packing, read_annotated, write_packed
from pose.data.prepare.packing import pack_surroundings
from pose.params import SURROUNDINGS, PrepareParams


def write_people(
    images: Sequence[Image], packing: Packing, params: PrepareParams, *, annotate: bool
) -> list[Image]:
    """Write the people with joints of the images that can be used, atomically, and return these images.

    annotate: as of `write_packed`. UserError if a split has nobody.
    """
    images = [image for image in images if image.people]
    most = sum(len(image.people) for image in images)
    pack_one = partial(pack, params=params)
    return write_packed(
        FILE, images, pack_one, _columns, packing, splits=SPLITS, most=most, annotate=annotate
    )


def pack(image: Image, params: PrepareParams) -> tuple[list[bytes], Packed]:
    """The people's surroundings as JPEG bytes, and `Packed`; Unusable as of `read_annotated`."""
    found = read_annotated(image, params.coco)
    data = b"" if found.is_turned else found.data
    pictures, packed = [], Packed([], [], found.exif)
    for person in image.people:
        x, y, width, height = person["bbox"]
        centre_xy = np.array([x + (width - 1) / 2, y + (height - 1) / 2])
        side = SURROUNDINGS * max(width, height)
        one = pack_surroundings(data, found.image_HW3, centre_xy, side, params) if side > 0 else None
        if one:
            pictures.append(one[0])
            packed.people.append(person)
            packed.affines.append(one[1])
    return pictures, packed


def _columns(images: Sequence[tuple[Image, Packed]], packing: Packing) -> dict[str, np.ndarray]:
    rows = [(image, k, person) for image, packed in images for k, person in enumerate(packed.people)]
    people = [person for *_, person in rows]
    return {
        "packed_affine": np.array([affine for _, packed in images for affine in packed.affines]),
        "image": np.array([image.entry["id"] for image, *_ in rows], dtype=np.int64),
        "name": np.array([packing.name(image) for image, *_ in rows], dtype=h5py.string_dtype()),
        "split": np.array([SPLITS.index(image.split) for image, *_ in rows], dtype=np.uint8),
        "image_size": np.array([image.size_wh for image, *_ in rows], dtype=np.int64),
        "person": np.array([k for _, k, _ in rows], dtype=np.int64),
        "keypoint": keypoints_of(people, len(packing.skeleton)),
        "box": np.array([person["bbox"] for person in people], dtype=np.float64),
        "annotation": np.array([person["id"] for person in people], dtype=np.int64),
        "head_size": np.array([person.get("head_size", np.nan) for person in people], dtype=np.float64),
    }
