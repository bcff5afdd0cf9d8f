"""COCO's `person_keypoints_*.json` and the list `valid_id`, read and checked.

Pycocotools trusts what it is given.

H W image px. RLE is a region as run lengths, see `pose.data.rle`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.data.rle import decompress, region_of
from pose.io.errors import UserError
from pose.io.files import read_json, read_text
from pose.io.hdf5 import MAX_INTEGER
from pose.io.images import relative_name
from pose.keypoints.skeleton import COCO

Entry = dict[str, Any]  # an object of the JSON file

IMAGE_KEYS = ("id", "file_name", "width", "height")
ANNOTATION_KEYS = (
    "id",
    "image_id",
    "category_id",
    "iscrowd",
    "bbox",
    "area",
    "num_keypoints",
    "keypoints",
)  # all that pycocotools reads
POLYGON_LEAST = 6  # numbers of a polygon's corners; real files have a few with less, which cover nothing
POLYGON_FAR = 1e5  # px; a corner beyond it would make pycocotools trace an outline of gigabytes


@dataclass(frozen=True)
class RawCoco:
    """One annotation file, checked.

    Images: in the file's order. people_of: annotations of people and crowds by image id.

    rest: what else the file holds, to be copied (info, licenses, categories). num_others: annotations of no
    person, left out.
    """

    path: Path
    images: list[Entry]
    people_of: dict[int, list[Entry]]
    rest: Entry
    num_others: int


def read_annotations(path: str | Path) -> RawCoco:
    """Read a `person_keypoints_*.json`.

    UserError, naming file and entry, for whatever could not be trained or scored on.
    """
    path = Path(path)
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(
            f"{path}: found a {type(found).__name__}, expected an object with images, annotations and categories"
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(found.get(key), list) or not all(isinstance(entry, dict) for entry in found[key]):
            raise UserError(
                f"{path}: found keys {_listed(found)}, expected {key!r} among them, a list of objects"
            )
    person_ids, other_ids = _categories(found["categories"], path)
    size_of: dict[int, tuple[int, int]] = {}
    for number, image in enumerate(found["images"], start=1):
        where = _where(path, "image", image, number)
        _check_image(image, where)
        if image["id"] in size_of:
            raise UserError(f"{where} is listed twice, expected an id of its own for each image")
        size_of[image["id"]] = image["height"], image["width"]
    people_of: dict[int, list[Entry]] = {image_id: [] for image_id in size_of}
    annotation_ids: set[int] = set()
    num_others = 0
    for number, annotation in enumerate(found["annotations"], start=1):
        where = _where(path, "annotation", annotation, number)
        category = annotation.get("category_id")
        if _is_whole(category) and category in other_ids:
            num_others += 1
            continue
        _check_annotation(annotation, where)
        if category not in person_ids:
            raise UserError(f"{where} has category_id {_shown(category)}, expected one of 'categories'")
        if annotation["id"] in annotation_ids:
            raise UserError(f"{where} is listed twice, expected an id of its own for each annotation")
        if annotation["image_id"] not in size_of:
            raise UserError(f"{where} is of image {annotation['image_id']}, which is not in 'images'")
        _check_segmentation(annotation, *size_of[annotation["image_id"]], where)
        annotation_ids.add(annotation["id"])
        people_of[annotation["image_id"]].append(annotation)
    rest = {"info": {}} | {key: value for key, value in found.items() if key not in ("images", "annotations")}
    return RawCoco(path=path, images=found["images"], people_of=people_of, rest=rest, num_others=num_others)


def read_valid_ids(path: str | Path) -> set[int]:
    """The image ids of a text file, one a line; UserError for a line that holds something else."""
    ids = set()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        word = line.strip()
        if word and not (word.isascii() and word.isdecimal() and len(word) < 20):
            raise UserError(
                f"{path}: line {number}: found {word[:40]!r}, expected an image id (a whole number)"
            )
        if word:
            ids.add(int(word))
    return ids


def is_labelled_person(annotation: Entry) -> bool:
    """Whether it is one person with joints: crowds and people with `num_keypoints` = 0 are not trained on."""
    return (
        not annotation["iscrowd"]
        and annotation["num_keypoints"] > 0
        and any(flag > 0 for flag in annotation["keypoints"][2::3])
    )


def region(annotation: Entry, height: int, width: int) -> np.ndarray:
    """(H, W) bool: the pixels of an annotation's segmentation, none if it has none."""
    segmentation = annotation.get("segmentation") or []
    if isinstance(segmentation, dict):
        return region_of(np.array(_counts(segmentation)), height, width)
    from pycocotools import mask  # here, since only this stage needs it

    polygons = [polygon for polygon in segmentation if len(polygon) >= POLYGON_LEAST]
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    inside_HW: np.ndarray = mask.decode(mask.merge(mask.frPyObjects(polygons, height, width))).astype(bool)
    return inside_HW


def _categories(categories: Sequence[Entry], path: Path) -> tuple[set[int], set[int]]:
    """Ids of the category `person`, and of the others."""
    ids: tuple[set[int], set[int]] = set(), set()
    for category in categories:
        if not _is_whole(category.get("id")):
            raise UserError(
                f"{path}: category {_shown(category.get('name'))} has id {_shown(category.get('id'))}, expected a whole number"
            )
        ids[category.get("name") != "person"].add(category["id"])
        joints = category.get("keypoints", list(COCO.joints))
        if category.get("name") == "person" and joints != list(COCO.joints):
            found = f"{len(joints)} keypoints" if isinstance(joints, list) else _shown(joints)
            raise UserError(
                f"{path}: category 'person' has {found}, expected COCO's {len(COCO)} in their order ({', '.join(COCO.joints)})"
            )
    if not ids[0]:
        names = _listed(category.get("name") for category in categories)
        raise UserError(f"{path}: found categories {names}, expected 'person' among them")
    return ids


def _check_image(image: Entry, where: str) -> None:
    for key in IMAGE_KEYS:
        if key not in image:
            raise UserError(f"{where} has no {key!r}, expected {', '.join(IMAGE_KEYS)}")
    for key, least in (("id", 0), ("width", 1), ("height", 1)):
        if not _is_whole(image[key]) or image[key] < least:
            raise UserError(
                f"{where} has {key} {_shown(image[key])}, expected a whole number of at least {least}"
            )
    relative_name(image["file_name"], f"{where}: file_name")


def _check_annotation(annotation: Entry, where: str) -> None:
    for key in ANNOTATION_KEYS:
        if key not in annotation:
            raise UserError(
                f"{where} has no {key!r}, expected {', '.join(ANNOTATION_KEYS)} (is it a person_keypoints file?)"
            )
    for key in ("id", "image_id", "category_id", "num_keypoints"):
        if not _is_whole(annotation[key]) or annotation[key] < 0:
            raise UserError(f"{where} has {key} {_shown(annotation[key])}, expected a whole number")
    if annotation["id"] == 0:  # by which pycocotools marks who was not found: this person never would be
        raise UserError(f"{where} has id 0, expected 1 or more")
    if annotation["iscrowd"] not in (0, 1):
        raise UserError(f"{where} has iscrowd {_shown(annotation['iscrowd'])}, expected 0 or 1")
    if not _are_numbers([annotation["area"]]):
        raise UserError(f"{where} has area {_shown(annotation['area'])}, expected a number")
    if (
        not isinstance(annotation["bbox"], list)
        or len(annotation["bbox"]) != 4
        or not _are_numbers(annotation["bbox"])
    ):
        raise UserError(f"{where} has bbox {_shown(annotation['bbox'])}, expected x, y, width, height")
    numbers = annotation["keypoints"]
    if not isinstance(numbers, list) or len(numbers) != 3 * len(COCO) or not _are_numbers(numbers):
        found = (
            f"{len(numbers)} numbers ({len(numbers) / 3:g} joints)"
            if isinstance(numbers, list)
            else _shown(numbers)
        )
        raise UserError(
            f"{where} has keypoints of {found}, expected {3 * len(COCO)} numbers: x, y, v of {len(COCO)} joints"
        )
    flags = numbers[2::3]
    if any(flag not in (0, 1, 2) for flag in flags):
        raise UserError(f"{where} has keypoints with flags {sorted(set(flags))}, expected 0, 1 or 2")


def _check_segmentation(annotation: Entry, height: int, width: int, where: str) -> None:
    segmentation = annotation.get("segmentation") or []
    if isinstance(segmentation, dict):
        size = segmentation.get("size")
        if size != [height, width]:
            raise UserError(
                f"{where} has an RLE of size {_shown(size)}, expected [{height}, {width}], its image's height and width"
            )
        try:
            counts = _counts(segmentation)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{where} has an RLE that cannot be read ({error!r}), expected 'counts'"
            ) from None
        if min(counts, default=0) < 0 or sum(counts) != height * width:
            raise UserError(
                f"{where} has an RLE of {sum(counts)} pixels, expected {height * width}, as its image has"
            )
        return
    if not isinstance(segmentation, list):
        raise UserError(
            f"{where} has a segmentation of type {type(segmentation).__name__}, expected polygons or an RLE"
        )
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) % 2 or not _are_numbers(polygon, POLYGON_FAR):
            raise UserError(f"{where} has a polygon that is not one, expected x, y of each corner, in pixels")
    if annotation["iscrowd"] and not segmentation:
        raise UserError(f"{where} is a crowd without segmentation, expected an RLE of its region")


def _counts(rle: Entry) -> list[int]:
    """The run lengths of an RLE, plain or compressed; ValueError, TypeError or KeyError if they are neither."""
    counts = rle["counts"]
    if isinstance(counts, str):
        return decompress(counts.encode("ascii"))
    if not isinstance(counts, list) or not all(_is_whole(count) for count in counts):
        raise TypeError("counts are no list of whole numbers")
    return counts


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INTEGER


def _are_numbers(values: Sequence[Any], far: float = 1e12) -> bool:
    """Whether all are numbers within `far` of 0.

    JSON as Python reads it also has NaN and infinity, and no largest whole number.
    """
    return all(type(value) in (int, float) and -far < value < far for value in values)


def _shown(value: Any) -> str:
    """A value of the file for a message: in one line, and not all of a long one."""
    return repr(value)[:80]


def _listed(names: Iterable[Any]) -> str:
    return (
        ", ".join(name if isinstance(name, str) and name.isprintable() else repr(name) for name in names)[
            :200
        ]
        or "none"
    )


def _where(path: Path, kind: str, entry: Entry, number: int) -> str:
    return f"{path}: {kind} {_shown(entry['id'])}" if "id" in entry else f"{path}: {kind} number {number}"
