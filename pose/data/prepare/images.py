"""Annotated images -> `coco.h5`, what the multi-person problem reads: whole images with all of their people.

What the loss must not look at is kept as run lengths. H W image px.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import h5py
import numpy as np

from pose.data.formats.coco_json import is_labelled_person, keypoints_of, region
from pose.data.image_set import SPLITS
from pose.data.prepare.annotated import Image, Packed, Packing, read_annotated, write_packed
from pose.data.prepared_set import IMAGES_FILE
from pose.data.rle import runs_of
from pose.io.images import encode_jpeg, is_jpeg, shrink
from pose.params import CocoParams


def write_images(images: Sequence[Image], packing: Packing, params: CocoParams) -> list[Image]:
    """Write the images that can be used, atomically, and return them; UserError if a split has none."""
    pack_one = partial(pack, params=params)
    return write_packed(IMAGES_FILE, images, pack_one, _columns, packing, splits=SPLITS, most=len(images))


def pack(image: Image, params: CocoParams) -> tuple[list[bytes], Packed]:
    """The image as JPEG bytes, and `Packed`; Unusable if it is damaged or of another size than annotated."""
    found = read_annotated(image, params)
    data, image_HW3 = found.data, found.image_HW3
    height, width = image_HW3.shape[:2]
    small_HW3, affine = shrink(image_HW3, params.longest / max(width, height))
    if small_HW3 is not image_HW3 or found.is_turned or not is_jpeg(data):
        data = encode_jpeg(small_HW3, params.jpeg_quality)
    ignore_HW = np.zeros((height, width), dtype=bool)
    for annotation in image.annotations:
        if annotation["iscrowd"] or (params.ignore_unlabelled and not is_labelled_person(annotation)):
            ignore_HW |= region(annotation, height, width)
    ignore_R = runs_of(ignore_HW) if ignore_HW.any() else np.empty(0, dtype=np.uint32)
    return [data], Packed(image.people, [affine], found.exif, ignore_R)


def _columns(images: Sequence[tuple[Image, Packed]], packing: Packing) -> dict[str, np.ndarray]:
    people = [person for _, packed in images for person in packed.people]
    columns: dict[str, np.ndarray] = {
        "packed_affine": np.array([packed.affines[0] for _, packed in images]),
        "runs": np.array([len(packed.ignore_R) for _, packed in images], dtype=np.int64),
        "run": np.concatenate([packed.ignore_R for _, packed in images]),
        "id": np.array([image.entry["id"] for image, _ in images], dtype=np.int64),
        "split": np.array([SPLITS.index(image.split) for image, _ in images], dtype=np.uint8),
        "image_size": np.array([image.size_wh for image, _ in images], dtype=np.int64),
        "people": np.array([len(packed.people) for _, packed in images], dtype=np.int64),
        "keypoint": keypoints_of(people, len(packing.skeleton)),
        "annotation": np.array([person["id"] for person in people], dtype=np.int64),
        "name": np.array([packing.name(image) for image, _ in images], dtype=h5py.string_dtype()),
    }
    # What no image to train on has is learnt as absent everywhere: nothing else would be learnt of it.
    in_all = set.intersection(*(set(image.lacking) for image, _ in images if image.split == "train"))
    has_joint_IK = np.ones((len(images), len(packing.skeleton)), dtype=np.uint8)
    for row, (image, _) in enumerate(images):
        has_joint_IK[row, [place for place in image.lacking if place not in in_all]] = 0
    if not has_joint_IK.all():
        columns["has_joint"] = has_joint_IK
    return columns
