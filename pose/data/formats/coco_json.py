"""COCO's `person_keypoints_*.json` and the list `valid_id`, read and checked: pycocotools checks nothing.

H W image px. An RLE is a region as run lengths, see `pose.data.rle`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.data.rle import decompress, region_of
from pose.io.errors import UserError
from pose.io.files import read_json, read_text
from pose.io.hdf5 import LARGEST
from pose.io.images import relative_name
from pose.keypoints.skeleton import COCO

Entry = dict[str, Any]  # an object of the JSON file
Checks = Mapping[
    str, tuple[Callable[[Any], bool], str]
]  # by key: whether its value will do, what is expected

MIN_POLYGON = 6  # numbers of a polygon's corners; real files have a few with fewer, which cover nothing
MAX_CORNER = 1e5  # px; for a corner beyond it pycocotools would trace an outline of gigabytes
MAX_NUMBER = 1e12


@dataclass(frozen=True)
class RawCoco:
    """One annotation file, checked.

    images: in the file's order. people_of: annotations of people and crowds by image id. rest: what else the
    file holds, to be copied (info, licenses, categories). num_others: annotations of other categories than
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
    content = read_json(path)
    if not isinstance(content, dict):
        found = type(content).__name__
        raise UserError(f"{path}: found a {found}, expected images, annotations and categories")
    for key in ("images", "annotations", "categories"):
        entries = content.get(key)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise UserError(
                f"{path}: found keys {_listed(content)}, expected {key!r} among them, a list of objects"
            )
    person_ids, other_ids = _category_ids(content["categories"], path)
    size_of: dict[int, tuple[int, int]] = {}
    for number, image in enumerate(content["images"], start=1):
        where = _where(path, "image", image, number)
        _check(image, IMAGE, where)
        relative_name(image["file_name"], f"{where}: file_name")
        if image["id"] in size_of:
            raise UserError(f"{where} is listed twice, expected an id of its own for each image")
        size_of[image["id"]] = image["height"], image["width"]
    people_of: dict[int, list[Entry]] = {image_id: [] for image_id in size_of}
    annotation_ids: set[int] = set()
    num_others = 0
    for number, annotation in enumerate(content["annotations"], start=1):
        category = annotation.get("category_id")
        if _is_integer(category) and category in other_ids:
            num_others += 1
            continue
        where = _where(path, "annotation", annotation, number)
        _check(annotation, ANNOTATION, where)
        _check_keypoints(annotation["keypoints"], where)
        if category not in person_ids:
            raise UserError(f"{where} has category_id {_shown(category)}, expected one of 'categories'")
        if annotation["id"] in annotation_ids:
            raise UserError(f"{where} is listed twice, expected an id of its own for each annotation")
        if annotation["image_id"] not in size_of:
            raise UserError(f"{where} is of image {annotation['image_id']}, which is not in 'images'")
        _check_segmentation(annotation, *size_of[annotation["image_id"]], where)
        annotation_ids.add(annotation["id"])
        people_of[annotation["image_id"]].append(annotation)
    rest = {"info": {}} | {key: content[key] for key in content if key not in ("images", "annotations")}
    return RawCoco(path, content["images"], people_of, rest, num_others)


def read_valid_ids(path: str | Path) -> set[int]:
    """The image ids of a text file, one a line; UserError for a line that holds something else."""
    ids = set()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        word = line.strip()
        if word and not (word.isascii() and word.isdecimal() and len(word) < 20):
            raise UserError(f"{path}: line {number}: found {word[:40]!r}, expected an image id (an integer)")
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
        return region_of(np.array(_run_lengths(segmentation)), height, width)
    from pycocotools import mask  # here, since only the preparation needs it

    polygons = [polygon for polygon in segmentation if len(polygon) >= MIN_POLYGON]
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    inside_HW: np.ndarray = mask.decode(mask.merge(mask.frPyObjects(polygons, height, width))).astype(bool)
    return inside_HW


def _is_integer(value: Any, least: int = -LARGEST) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST


def _are_numbers(values: Any, far: float = MAX_NUMBER) -> bool:
    """Whether it is a list of numbers within `far` of 0.

    JSON as Python reads it also has NaN, infinity, and integers of any size.
    """
    if not isinstance(values, list) or not set(map(type, values)) <= {int, float}:
        return False
    # NaN compares as False: as the first number it is the minimum, elsewhere it makes the sum NaN.
    return not values or (-far < min(values) <= max(values) < far and not math.isnan(sum(values)))


IMAGE: Checks = {
    "id": (lambda value: _is_integer(value, 0), "an integer"),
    "file_name": (lambda value: isinstance(value, str), "a relative path"),
    "width": (lambda value: _is_integer(value, 1), "an integer of at least 1"),
    "height": (lambda value: _is_integer(value, 1), "an integer of at least 1"),
}
ANNOTATION: Checks = {  # all that pycocotools reads
    "id": (lambda value: _is_integer(value, 1), "an integer of at least 1"),  # 0 marks who was not found
    "image_id": (lambda value: _is_integer(value, 0), "an integer"),
    "category_id": (lambda value: _is_integer(value, 0), "an integer"),
    "iscrowd": (lambda value: value in (0, 1), "0 or 1"),
    "bbox": (lambda value: _are_numbers(value) and len(value) == 4, "x, y, width, height"),
    "area": (lambda value: _are_numbers([value]), "a number"),
    "num_keypoints": (lambda value: _is_integer(value, 0), "an integer"),
    "keypoints": (
        lambda value: isinstance(value, list) and len(value) == 3 * len(COCO),
        f"{3 * len(COCO)} numbers: x, y, flag of {len(COCO)} joints",
    ),
}


def _check(entry: Entry, checks: Checks, where: str) -> None:
    for key, (fits, expected) in checks.items():
        if key not in entry:
            raise UserError(f"{where} has no {key!r}, expected {', '.join(checks)}")
        if not fits(entry[key]):
            raise UserError(f"{where} has {key} {_shown(entry[key])}, expected {expected}")


def _check_keypoints(numbers: list[Any], where: str) -> None:
    if not _are_numbers(numbers):
        at = next(at for at, number in enumerate(numbers) if not _are_numbers([number]))
        what = f"{('x', 'y', 'flag')[at % 3]} of {COCO.joints[at // 3]}"
        raise UserError(f"{where} has {_shown(numbers[at])} as {what}, expected a number")
    if not set(numbers[2::3]) <= {0, 1, 2}:
        raise UserError(f"{where} has keypoints with flags {sorted(set(numbers[2::3]))}, expected 0, 1 or 2")


def _check_segmentation(annotation: Entry, height: int, width: int, where: str) -> None:
    segmentation = annotation.get("segmentation") or []
    if isinstance(segmentation, dict):
        _check_rle(segmentation, height, width, where)
        return
    if not isinstance(segmentation, list):
        found = type(segmentation).__name__
        raise UserError(f"{where} has a segmentation of type {found}, expected polygons or an RLE")
    if not all(_are_numbers(polygon, MAX_CORNER) and len(polygon) % 2 == 0 for polygon in segmentation):
        raise UserError(f"{where} has a polygon that is not one, expected x, y of each corner, in pixels")
    if annotation["iscrowd"] and not segmentation:
        raise UserError(f"{where} is a crowd without segmentation, expected an RLE of its region")


def _check_rle(rle: Entry, height: int, width: int, where: str) -> None:
    if rle.get("size") != [height, width]:
        raise UserError(
            f"{where} has an RLE of size {_shown(rle.get('size'))}, expected [{height}, {width}] as its image"
        )
    try:
        counts = _run_lengths(rle)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{where} has an RLE that cannot be read ({error!r}), expected 'counts'") from None
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise UserError(
            f"{where} has an RLE of {sum(counts)} pixels, expected {height * width}, as its image has"
        )


def _run_lengths(rle: Entry) -> list[int]:
    """The run lengths of an RLE, plain or compressed; ValueError, TypeError, KeyError if they are neither."""
    counts = rle["counts"]
    if isinstance(counts, str):
        return decompress(counts.encode("ascii"))
    if not isinstance(counts, list) or not all(_is_integer(count) for count in counts):
        raise TypeError("counts are no list of integers")
    return counts


def _category_ids(categories: Sequence[Entry], path: Path) -> tuple[set[int], set[int]]:
    """Ids of the category `person`, and of the others."""
    ids: tuple[set[int], set[int]] = set(), set()
    for category in categories:
        name, number = category.get("name"), category.get("id")
        if not _is_integer(number):
            raise UserError(f"{path}: category {_shown(name)} has id {_shown(number)}, expected an integer")
        ids[name != "person"].add(category["id"])
        joints = category.get("keypoints", list(COCO.joints))
        if name == "person" and joints != list(COCO.joints):
            raise UserError(
                f"{path}: category 'person' has {_difference(joints)}, expected COCO's {len(COCO)} keypoints"
                f" in their order ({', '.join(COCO.joints)})"
            )
    if not ids[0]:
        names = _listed(category.get("name") for category in categories)
        raise UserError(f"{path}: found categories {names}, expected 'person' among them")
    return ids


def _difference(joints: Any) -> str:
    """What the keypoints of a category have that COCO's have not."""
    if not isinstance(joints, list):
        return f"keypoints {_shown(joints)}"
    if len(joints) != len(COCO):
        return f"{len(joints)} keypoints"
    at = next(at for at, joint in enumerate(COCO.joints) if joints[at] != joint)
    return f"{_shown(joints[at])} as keypoint {at + 1} where COCO has {COCO.joints[at]!r}"


def _shown(value: Any) -> str:
    """A value of the file for a message: in one line, and not all of a long one."""
    return repr(value)[:80]


def _listed(names: Iterable[Any]) -> str:
    printable = (name if isinstance(name, str) and name.isprintable() else repr(name) for name in names)
    return ", ".join(printable)[:200] or "none"


def _where(path: Path, kind: str, entry: Entry, number: int) -> str:
    return f"{path}: {kind} {_shown(entry['id'])}" if "id" in entry else f"{path}: {kind} number {number}"
