"""COCO's annotations of keypoints and the list `valid_id`, read and checked: pycocotools checks nothing.

H W image px. An RLE is a region as run lengths, see `pose.data.rle`.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, WrapValidator
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from pose.data.rle import region_of
from pose.io.errors import UserError, reading
from pose.io.files import read_json, read_text
from pose.io.images import relative_name
from pose.io.schema import parse
from pose.keypoints.skeleton import Skeleton, different_joint

Entry = dict[str, Any]  # an object of the JSON file

MOST_PIXELS = 250_000_000  # as of the images that OpenCV reads, see `pose/__init__.py`
MIN_POLYGON = 6  # numbers of a polygon's corners; real files have a few with fewer, which cover nothing


@dataclass(frozen=True)
class RawCoco:
    """One annotation file, checked. People are whatever has the skeleton's joints.

    category: of people. images: in the file's order. people_of: annotations of people and crowds by image
    id. rest: what else the file holds, to be copied (info, licenses, categories). num_others: annotations of
    other categories, left out. lacking: places of the joints that the file does not list.
    """

    path: Path
    skeleton: Skeleton
    category: int
    images: list[Entry]
    people_of: dict[int, list[Entry]]
    rest: Entry
    num_others: int
    lacking: tuple[int, ...] = ()


def read_annotations(path: str | Path, skeleton: Skeleton) -> RawCoco:
    """Read annotations of a category with these joints.

    UserError, naming file and entry, for whatever could not be trained or scored on.
    """
    return check_annotations(Path(path), read_json(path), skeleton)


def check_annotations(path: Path, content: Any, skeleton: Skeleton) -> RawCoco:
    """The content of such a file, checked; errors as of `read_annotations`."""
    with reading(path, "images, annotations and categories"):
        category_of = _by_id(content["categories"], _Category, f"{path}: category")
        category = _category_with(skeleton, category_of, path)
        other_ids = category_of.keys() - {category}
        image_of = _by_id(content["images"], _Image, f"{path}: image")
        for image_id, image in image_of.items():
            relative_name(image["file_name"], f"{path}: image {image_id}: file_name")
            if image["width"] * image["height"] > MOST_PIXELS:  # memory is taken for them to check an RLE
                found = f"found {image['width']} x {image['height']} px"
                raise UserError(f"{path}: image {image_id}: {found}, expected {MOST_PIXELS:,} px at most")
        people = [one for one in content["annotations"] if one.get("category_id") not in other_ids]
        people_of: dict[int, list[Entry]] = {image_id: [] for image_id in image_of}
        for annotation_id, annotation in _by_id(
            people, _Annotation, f"{path}: annotation", skeleton.joints
        ).items():
            where = f"{path}: annotation {annotation_id}"
            for key, known in (("category_id", category_of), ("image_id", image_of)):
                if annotation[key] not in known:
                    raise UserError(
                        f"{where}: found {key} {annotation[key]}, expected one that the file lists"
                    )
            _check_region(annotation, image_of[annotation["image_id"]], where)
            people_of[annotation["image_id"]].append(annotation)
    rest = {"info": {}} | {key: content[key] for key in content if key not in ("images", "annotations")}
    num_others = len(content["annotations"]) - len(people)
    return RawCoco(path, skeleton, category, content["images"], people_of, rest, num_others)


def read_valid_ids(path: str | Path) -> set[int]:
    """The image ids of a text file, one a line; UserError for a line that holds something else."""
    ids = set()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if word := line.strip():
            with reading(f"{path}: line {number}", "an image id"):
                ids.add(int(word))
    return ids


def is_labelled_person(annotation: Entry) -> bool:
    """Whether it is one person with joints: crowds and people with `num_keypoints` = 0 are not trained on."""
    return (
        not annotation["iscrowd"]
        and annotation["num_keypoints"] > 0
        and any(flag > 0 for flag in annotation["keypoints"][2::3])
    )


def keypoints_of(annotations: Sequence[Entry], joints: int) -> np.ndarray:
    """(P, K, 3) float64: x, y, image px, and flag of the joints of people who have so many each."""
    numbers = [annotation["keypoints"] for annotation in annotations]
    return np.array(numbers, dtype=np.float64).reshape(len(annotations), joints, 3)


def region(annotation: Entry, height: int, width: int) -> np.ndarray:
    """(H, W) bool: the pixels of an annotation's segmentation, none if it has none."""
    from pycocotools import mask  # here, since only the preparation needs it

    rle = annotation.get("segmentation") or []
    if isinstance(rle, list):
        polygons = [polygon for polygon in rle if len(polygon) >= MIN_POLYGON]
        if not polygons:
            return np.zeros((height, width), dtype=bool)
        rle = mask.merge(mask.frPyObjects(polygons, height, width))
    elif isinstance(rle["counts"], list):
        return region_of(np.array(rle["counts"]), height, width)
    inside_HW: np.ndarray = mask.decode(rle).astype(bool)
    return inside_HW


# --- what is expected of the entries: all that pycocotools reads; they may have more keys ---


FLAGS = {0, 1, 2}


def _name_joint(keypoints: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> list[float]:
    """The numbers, checked; ValueError with the joint of a wrong one instead of its place in the list."""
    joints: tuple[str, ...] = info.context or ()
    count = 3 * len(joints)

    def wrong(place: int, expected: str) -> ValueError:
        joint, part = joints[place // 3], ("x", "y", "flag")[place % 3]
        return ValueError(f"{joint} has {part} {reprlib.repr(keypoints[place])}, expected {expected}")

    try:
        numbers: list[float] = check(keypoints)
    except ValidationError as error:
        if isinstance(keypoints, list) and len(keypoints) == count:
            raise wrong(int(error.errors()[0]["loc"][0]), "a number") from None
        numbers = []
    if len(numbers) != count:
        found = f"{len(keypoints)} entries" if isinstance(keypoints, list) else reprlib.repr(keypoints)
        raise ValueError(f"found {found}, expected {count}: x, y and flag of {len(joints)} joints")
    if not FLAGS.issuperset(numbers[2::3]):
        raise wrong(next(k for k in range(2, count, 3) if numbers[k] not in FLAGS), "0, 1 or 2")
    return numbers


Id = Annotated[int, Field(ge=0, lt=2**63)]
Side = Annotated[int, Field(ge=1)]
Box = Annotated[list[float], Field(min_length=4, max_length=4)]
Corner = Annotated[float, Field(ge=-1e5, le=1e5)]  # px; pycocotools takes memory for every pixel on the way
_Keypoints = Annotated[list[float], WrapValidator(_name_joint)]  # context: names of the joints


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Image(_Entry):
    id: Id
    file_name: str
    width: Side
    height: Side


class _Category(_Entry):
    id: Id
    name: str


class _Rle(_Entry):
    size: list[int]
    counts: str | list[Annotated[int, Field(ge=0)]]


class Keypoints(_Entry):
    """The joints of an annotation, whatever else it has."""

    keypoints: _Keypoints


class _Annotation(Keypoints):
    id: Annotated[Id, Field(ge=1)]  # 0 marks who was not found
    image_id: Id
    category_id: Id
    iscrowd: Literal[0, 1]
    bbox: Box
    area: float
    num_keypoints: Id
    segmentation: list[list[Corner]] | _Rle | None = None


def _by_id(
    entries: Iterable[Entry], schema: type[_Entry], where: str, joints: Sequence[str] = ()
) -> dict[int, Entry]:
    found: dict[int, Entry] = {}
    for number, entry in enumerate(entries, start=1):
        name = f"{where} {entry.get('id', f'number {number}')!r}"
        parse(schema, entry, name, context=joints)
        if entry["id"] in found:
            raise UserError(f"{name} is listed twice, expected an id of its own for each")
        found[entry["id"]] = entry
    return found


def _category_with(skeleton: Skeleton, category_of: dict[int, Entry], path: Path) -> int:
    """Id of the category with these joints."""
    found = [number for number, one in category_of.items() if one.get("keypoints") == [*skeleton.joints]]
    if len(found) == 1:
        return found[0]
    with_joints = [one for one in category_of.values() if one.get("keypoints") or one["name"] == "person"]
    if len(with_joints) == 1:
        check_joints(
            with_joints[0].get("keypoints"), f"{path}: category {with_joints[0]['name']!r}", skeleton
        )
    names = ", ".join(repr(one["name"]) for one in category_of.values())[:200] or "none"
    expected = f"one with the {len(skeleton)} joints of {skeleton.name}"
    raise UserError(f"{path}: found categories {names}, expected {expected}")


def check_joints(joints: Any, where: str, skeleton: Skeleton) -> None:
    """UserError, with the first that differs, for names of other joints or in another order."""
    if not isinstance(joints, list) or not joints:
        raise UserError(f"{where}: found no keypoints, expected the {len(skeleton)} of {skeleton.name}")
    if difference := different_joint(joints, skeleton.joints):
        expected = f"the {len(skeleton)} of {skeleton.name} in their order"
        raise UserError(f"{where}: keypoints, {difference} ({expected})")


def _check_region(annotation: Entry, image: Entry, where: str) -> None:
    segmentation, size = annotation.get("segmentation"), [image["height"], image["width"]]
    if annotation["iscrowd"] and not segmentation:
        raise UserError(f"{where} is a crowd without segmentation, expected its region")
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if segmentation["size"] != size or (isinstance(counts, list) and sum(counts) != size[0] * size[1]):
            found = f"an RLE of size {segmentation['size']}, or of other run lengths"
            raise UserError(f"{where}: found {found}, expected {size} as its image has")
        if isinstance(counts, str):
            with reading(where, "an RLE"):
                region(annotation, *size)
