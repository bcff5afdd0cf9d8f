"""Reading what predictions are scored against: COCO's format, prepared sets, MPII's files and arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pose.data.formats.coco_json import (
    RawCoco,
    check_annotations,
    is_labelled_person,
    keypoints_of,
    read_annotations,
)
from pose.data.image_set import ImageSet
from pose.data.person_set import FILE as PEOPLE_FILE
from pose.data.person_set import PersonSet
from pose.data.prepare.categories import Joints
from pose.data.prepare.normalise import UNKNOWN_SIZE, normalise
from pose.data.prepared_set import IMAGES_FILE, annotation_file
from pose.io.errors import UserError
from pose.io.files import check_regular_file, read_json
from pose.io.hdf5 import open_h5
from pose.metrics.pck import person_truth
from pose.metrics.scoring.array_truth import read_arrays, read_gt_valid, read_mpii_h5
from pose.metrics.scoring.truth import Truth, TruthImage, annotated_people

EXPECTED = (
    "annotations in COCO's format (.json), a prepared set (.h5 or its folder), gt_valid.mat or valid.h5 of"
    " MPII, or arrays (.npz)"
)


def read_truth(path: Path, joints: Joints, *, people: bool = False) -> Truth:
    """Annotated people of any of these kinds; UserError, naming the file, for anything else.

    Of a prepared folder those images that are evaluated, or with `people` all people of its images, one a
    row. joints: of a file that does not say them.
    """
    path = path.parent if path.name == IMAGES_FILE else path
    if people and (path / IMAGES_FILE).is_file():
        return _of_people(PersonSet(path))
    suffix = path.suffix.lower()
    if path.is_dir():
        path, suffix = annotation_file(path, "validation"), ".json"
    check_regular_file(path, EXPECTED)
    if suffix in (".json", ".gz"):
        return _of_images(path, joints)
    if suffix == ".npz":
        return read_arrays(path, joints)
    if suffix == ".mat":
        return read_gt_valid(path)
    if h5py.is_hdf5(path):
        with open_h5(path) as file:
            if "normalize" in file:
                return read_mpii_h5(path, file)
            is_prepared = "packed_affine" in file
        if is_prepared:
            return _of_people(PersonSet(path))
    raise UserError(f"{path}: found something else, expected {EXPECTED}")


def _checked(path: Path, content: Any, joints: Joints) -> RawCoco:
    """The content of an annotation file, checked; of one of a prepared folder with the folder's skeleton."""
    if path.parent.name != "annotations":
        return normalise(content, path.parent, path, joints, "stored").raw
    folder = path.parent.parent
    if (folder / IMAGES_FILE).is_file():
        return check_annotations(path, content, ImageSet(folder).skeleton)
    if (folder / PEOPLE_FILE).is_file():
        return check_annotations(path, content, PersonSet(folder / PEOPLE_FILE).skeleton)
    return normalise(content, folder, path, joints, "stored").raw


def _of_images(path: Path, joints: Joints) -> Truth:
    content = read_json(path)
    raw = _checked(path, content, joints)
    sizes = [(one["width"], one["height"]) for one in raw.images]
    images = [
        TruthImage(one["file_name"], one["id"], *((None, None) if size == UNKNOWN_SIZE else size))
        for one, size in zip(raw.images, sizes, strict=True)
    ]
    number_of = {image["id"]: number for number, image in enumerate(raw.images)}
    labelled = [  # in the file's order, which predictions without ids have too
        (number_of[person["image_id"]], person)
        for person in content["annotations"]
        if person["category_id"] == raw.category and is_labelled_person(person)
    ]
    keypoint_NK3 = keypoints_of([person for _, person in labelled], len(raw.skeleton))
    side_N = np.array([max(person["bbox"][2:]) for _, person in labelled], dtype=np.float64)
    people = annotated_people(keypoint_NK3[..., :2], keypoint_NK3[..., 2] > 0, raw.skeleton, side_N=side_N)
    image_N = np.array([number for number, _ in labelled], dtype=np.int64)
    return Truth(path, people, images, image_N, {"people with joints": np.arange(len(labelled))}, raw)


def _of_people(people: PersonSet) -> Truth:
    every = np.arange(len(people))
    names = [people.name(row) for row in every.tolist()]
    index: dict[str, int] = {}
    image_N = np.array([index.setdefault(name, len(index)) for name in names], dtype=np.int64)
    _, first_I = np.unique(image_N, return_index=True)
    ids = [number if number >= 0 else None for number in people.image_id_N.tolist()]
    sizes = people.image_size_N2.tolist()
    images = [TruthImage(names[row], ids[row], *sizes[row]) for row in first_I.tolist()]
    splits = [people.rows(split) for split in ("validation", "test") if split in people.split_N]
    evaluated = np.sort(np.concatenate([every[:0], *splits]))
    parts = {
        "evaluated people": evaluated,
        "MPII's validation people": evaluated[people.source_N[evaluated] == "mpii"],
        "people with joints": every[people.labelled_NK.any(axis=1)],
    }
    annotations = people.annotations("validation")
    has_raw = ids[:1] != [None] and annotations.is_file()
    raw = read_annotations(annotations, people.skeleton) if has_raw else None
    return Truth(people.path, person_truth(people, every), images, image_N, parts, raw, is_prepared=True)
