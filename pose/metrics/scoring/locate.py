"""Which annotated image or person each prediction is of, and its joints in the order of the truth's."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import PurePath

import numpy as np

from pose.io.errors import UserError
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, Results
from pose.keypoints.skeleton import same_joints
from pose.metrics.scoring.truth import Truth

log = logging.getLogger(__name__)


Place = tuple[int, int | None]  # number of an image of the truth, row of its person


def locate(results: Results, truth: Truth) -> Results:
    """Predictions with what the truth knows of their images, file, id and size, and with rows of its people.

    They belong to images by id or by the name of the file, or to people by row or, where a file says nothing,
    by their order. UserError, naming both files, if they are of other images or people, or if it cannot be
    said of which.
    """
    keys = {_key(one) for one in results.images}
    if len(keys) > 1:
        raise UserError(f"{results.path}: found images of {' and of '.join(sorted(keys))}, expected one kind")
    places: list[Place] = PLACES_BY[keys.pop()](results, truth) if keys else []
    images = []
    for one, (number, row) in zip(results.images, places, strict=True):
        if row is not None and len(one.people) != 1:
            found = f"{len(one.people)} people in {one.file or f'row {row}'}"
            raise UserError(f"{results.path}: found {found}, expected one, whom {truth.path} has there")
        image = truth.images[number]
        width, height = image.width or one.width, image.height or one.height
        file, image_id = one.file or image.name, image.image_id
        images.append(replace(one, file=file, image_id=image_id, width=width, height=height, row=row))
    skeleton = results.skeleton
    if skeleton is None and results.joints == len(truth.skeleton):
        skeleton = truth.skeleton
    category = truth.raw.category if truth.raw else results.category
    return replace(results, images=images, skeleton=skeleton, category=category)


def in_order_of(results: Results, truth: Truth) -> Results:
    """Predictions with the joints of the truth, in its order; NaN for joints that nobody has labelled there.

    UserError if the predictions lack others.
    """
    own, skeleton = results.skeleton, truth.skeleton
    if own is None and not len(results):
        return replace(results, skeleton=skeleton, joints=len(skeleton))
    if own is None:
        found = f"found {results.joints} joints without names"
        expected = f"the {len(skeleton)} of {skeleton.name}, or --skeleton with their names"
        raise UserError(f"{results.path}: {found}, expected {expected}, as {truth.path} has")
    place_K = same_joints(skeleton, own)
    if lacking := np.flatnonzero((place_K < 0) & truth.people.labelled_NK.any(axis=0)).tolist():
        found = f"found no joint {skeleton.joints[lacking[0]]!r} among those of {own.name}"
        raise UserError(f"{results.path}: {found}, expected it and the others that {truth.path} has")
    if own.joints == skeleton.joints:
        return results
    images = []
    for one in results.images:
        joint_PK2 = np.where(place_K[:, None] < 0, np.nan, one.people.joint_PK2[:, place_K])
        score_PK = np.where(place_K < 0, 0, one.people.score_PK[:, place_K])
        images.append(replace(one, people=People(joint_PK2, score_PK, one.people.score_P)))
    return replace(results, images=images, skeleton=skeleton, joints=len(skeleton))


def _key(one: ImageResult) -> str:
    return next((key for key in ("row", "image_id", "file") if getattr(one, key) is not None), "order")


def _by_row(results: Results, truth: Truth) -> list[Place]:
    if not truth.is_prepared:
        found = f"{results.path}: found rows of a prepared set, but {truth.path} is none"
        raise UserError(f"{found}, expected the set that they were predicted on")
    rows, people = [int(one.row or 0) for one in results.images], len(truth.image_N)
    if strange := [row for row in rows if not 0 <= row < people]:
        expected = f"expected those of {truth.path}, 0 to {people - 1}"
        raise UserError(f"{results.path}: found row {strange[0]}, {expected}")
    if len(set(rows)) < len(rows):
        raise UserError(f"{results.path}: found a row twice, expected each once")
    return [(int(truth.image_N[row]), row) for row in rows]


def _by_order(results: Results, truth: Truth) -> list[Place]:
    count = len(results.images)
    for name, rows in truth.parts.items():
        if len(rows) == count:
            log.info("%s: taken for the %s of %s, in their order", results.path, name, truth.path)
            return [(int(truth.image_N[row]), row) for row in rows.tolist()]
    sizes = " or ".join(f"{len(rows):,} ({name})" for name, rows in truth.parts.items())
    raise UserError(f"{results.path}: found {count:,} people, expected {sizes} as {truth.path} has")


def _by_id(results: Results, truth: Truth) -> list[Place]:
    if truth.raw is None:
        raise UserError(f"{truth.path}: has no image ids, expected those that {results.path} says people by")
    scored = {image["id"] for image in truth.raw.images}  # a prepared set also holds those of training
    place = {image.image_id: number for number, image in enumerate(truth.images) if image.image_id in scored}
    if strange := [one.image_id for one in results.images if one.image_id not in place]:
        found = f"image {strange[0]}" + (f" and {len(strange) - 1} more" if len(strange) > 1 else "")
        expected = f"expected those of {truth.path}, which has {len(place):,} others"
        raise UserError(f"{results.path}: found {found} of {len(results.images):,}, {expected}")
    for one in results.images:
        name = truth.images[place[one.image_id]].name
        if one.file and name and not _end_alike(PurePath(one.file), PurePath(name)):
            found = f"image_id {one.image_id} of {one.file}"
            raise UserError(f"{results.path}: found {found}, expected ids of {truth.path} ({name})")
    return [(place[one.image_id], None) for one in results.images]


def _by_name(results: Results, truth: Truth) -> list[Place]:
    numbers: dict[str, list[int]] = {}
    scored = {image["id"] for image in truth.raw.images} if truth.raw else None
    for number, image in enumerate(truth.images):
        if image.name and (scored is None or image.image_id in scored):
            numbers.setdefault(PurePath(image.name).name, []).append(number)
    rows_of: dict[int, list[int]] = {}
    for row in np.flatnonzero(truth.people.labelled_NK.any(axis=1)).tolist():
        rows_of.setdefault(int(truth.image_N[row]), []).append(row)
    places: list[Place] = []
    predicted = Counter(PurePath(one.file or "").name for one in results.images)
    for one in results.images:
        file = PurePath(one.file or "")
        if one.frame is not None:
            raise UserError(f"{results.path}: found frames of the video {file}, expected images")
        found = numbers.get(file.name, [])
        if len(found) > 1 or predicted[file.name] > 1:  # in several folders
            found = [
                number for number in found if _end_alike(file, PurePath(truth.images[number].name or ""))
            ]
        if len(found) != 1:
            how_many = f"{len(found)} images" if found else "none"
            raise UserError(
                f"{results.path}: found image {file}, expected one of {truth.path}: {how_many} of that name"
            )
        rows = rows_of.get(found[0], [])
        if truth.raw is None and len(rows) != 1:
            expected = "one: predictions by image say nothing of whom they are"
            raise UserError(f"{truth.path}: has {len(rows)} people in {file}, expected {expected}")
        places.append((found[0], None if truth.raw else rows[0]))
    if twice := [place for place, count in Counter(places).items() if count > 1]:
        name = truth.images[twice[0][0]].name
        raise UserError(f"{results.path}: found image {name} of {truth.path} twice, expected it once")
    return places


def _end_alike(one: PurePath, other: PurePath) -> bool:
    count = min(len(one.parts), len(other.parts))
    return one.parts[-count:] == other.parts[-count:]


PLACES_BY: dict[str, Callable[[Results, Truth], list[Place]]] = {
    "row": _by_row,
    "image_id": _by_id,
    "file": _by_name,
    "order": _by_order,
}
