"""Annotated images -> `coco.h5`, what the multi-person problem reads: whole images with all of their people.

What the loss must not look at is kept as run lengths. H W image px.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from pose.data.formats.coco_json import is_labelled_person, keypoints_of, region
from pose.data.image_set import SPLITS
from pose.data.prepare.annotated import Image, check_splits, note_exif, read_annotated, usable
from pose.data.prepare.packing import pack_images, write_columns
from pose.data.prepare.summary import Summary
from pose.data.prepared_set import IMAGES_FILE
from pose.data.rle import runs_of
from pose.io.files import atomic_write
from pose.io.hdf5 import create_h5
from pose.io.images import encode_jpeg, is_jpeg, shrink
from pose.keypoints.skeleton import Skeleton
from pose.params import CocoParams


@dataclass(frozen=True, slots=True)
class Info:
    """Of a packed image: the affine to it, run lengths of what the loss must not look at, a note on EXIF."""

    affine_23: np.ndarray
    ignore_R: np.ndarray
    exif: str


def write_images(
    folder: Path,
    images: Sequence[Image],
    skeleton: Skeleton,
    *,
    root: Path,
    params: CocoParams,
    workers: int | None,
    summary: Summary,
    before: Callable[[list[Image]], None],
) -> list[Image]:
    """Write the images that can be used, atomically, and return them; UserError if a split has none.

    root: what their names are relative to. before: is called with them before the file is there.
    """
    with atomic_write(folder / IMAGES_FILE) as temporary, create_h5(temporary) as file:
        pack_one = partial(pack, params=params)
        packed = pack_images(file, images, pack_one, most=len(images), workers=workers, summary=summary)
        kept, infos = usable(images, packed, summary)
        check_splits(kept, summary, root)
        note_exif(kept, [info.exif for info in infos], summary)
        _write_columns(file, kept, infos, skeleton, root)
        file.flush()
        before(kept)
    return kept


def pack(image: Image, params: CocoParams) -> tuple[list[bytes], Info]:
    """The image as JPEG bytes, and `Info`; Unusable if it is damaged or of another size than annotated."""
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
    return [data], Info(affine, ignore_R, found.exif)


def _write_columns(
    file: h5py.File, images: Sequence[Image], infos: Sequence[Info], skeleton: Skeleton, root: Path
) -> None:
    people = [person for image in images for person in image.people]
    names = [image.file.path.relative_to(root).as_posix() for image in images]
    columns: dict[str, np.ndarray] = {
        "packed_affine": np.array([info.affine_23 for info in infos]),
        "runs": np.array([len(info.ignore_R) for info in infos], dtype=np.int64),
        "run": np.concatenate([info.ignore_R for info in infos]),
        "id": np.array([image.entry["id"] for image in images], dtype=np.int64),
        "split": np.array([SPLITS.index(image.split) for image in images], dtype=np.uint8),
        "image_size": np.array([image.size_wh for image in images], dtype=np.int64),
        "people": np.array([len(image.people) for image in images], dtype=np.int64),
        "keypoint": keypoints_of(people, len(skeleton)),
        "annotation": np.array([person["id"] for person in people], dtype=np.int64),
        "name": np.array(names, dtype=h5py.string_dtype()),
    }
    if any(image.lacking for image in images):
        has_joint_IK = np.ones((len(images), len(skeleton)), dtype=np.uint8)
        for row, image in enumerate(images):
            has_joint_IK[row, [*image.lacking]] = 0
        columns["has_joint"] = has_joint_IK
    file.attrs["skeleton"] = skeleton.model_dump_json()
    write_columns(file, columns, names={"split": SPLITS})
