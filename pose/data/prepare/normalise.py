"""COCO-format files as annotation tools write them -> as COCO's own are; each kind of change is noted.

What follows from the rest of the file or from the image is derived; the rest is left to the check of
`pose.data.formats.coco_json`, which names it. COCO's own files stay as they are, but for `WEB`.
"""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pose.data.formats.coco_json import MIN_POLYGON, Entry, Keypoints, RawCoco, check_annotations
from pose.data.prepare.categories import Category, Joints, read_category
from pose.data.prepare.image_names import ImageFile, find_images, image_folders
from pose.data.prepare.packing import Unusable, in_threads, read_raw_image
from pose.data.prepare.summary import Changes
from pose.io.errors import UserError, reading
from pose.io.files import read_json
from pose.io.images import exif_orientation
from pose.io.schema import parse

WEB = frozenset({"coco_url", "flickr_url", "date_captured"})  # of COCO's images: where they come from
SIZE_BY_EXIF = "of these with an EXIF orientation, read as prepare.coco.exif says: {}"
UNKNOWN_SIZE = (1, 1)  # width and height of an image that cannot be read, and has none in its file
FILLED = 0.53  # outline over box of COCO's people, by which others derive areas too
SHARES = "all joints between 0 and 1, taken for unlabelled"
LEAST_FILLED = 0.1  # of the box of the joints: an area below is none in px
LEAST_AREA = 1.0  # px; what some tools write instead of an area


@dataclass(frozen=True)
class Normalised:
    """An annotation file. files: of its images, in their order. changes: how the file itself differs.

    validates: which of the images are evaluated, None if nothing says.
    """

    raw: RawCoco
    files: list[ImageFile]
    changes: Changes
    validates: Sequence[bool] | None = None

    def images(self) -> Iterator[tuple[Entry, list[Entry], ImageFile]]:
        """Each image's entry, annotations of people, and file."""
        return zip(self.raw.images, self.raw.people_of.values(), self.files, strict=True)


def read_normalised(folder: Path, path: Path, joints: Joints, exif: str) -> Normalised:
    """Read an annotation file below a folder, which has the images too. exif: as of `CocoParams`.

    Without `WEB`, which saves memory: 7 % of what COCO takes. UserError, naming file and entry, for whatever
    could not be trained or scored on.
    """
    return normalise(read_json(path, without=WEB), folder, path, joints, exif)


def normalise(
    content: Any, folder: Path, path: Path, joints: Joints, exif: str, changes: Changes | None = None
) -> Normalised:
    """`read_normalised` of what the file `path` holds. changes: that it has gone through already."""
    changes = changes or Changes()
    folders = image_folders(folder, path.stem.removeprefix("person_keypoints_"))
    with reading(path, "images, annotations and categories"):
        images, annotations = content["images"], content["annotations"]
        _to_whole_numbers(images, ("id", "width", "height"), changes)
        _to_whole_numbers(annotations, ("id", "image_id", "category_id", "iscrowd"), changes)
        _to_whole_numbers(content["categories"], ("id",), changes)
        category = read_category(content, path, joints, changes)
        files = find_images(images, folders, str(path), changes)
        sizes = {one.get("image_id"): one["segmentation"]["size"] for one in annotations if _has_size(one)}
        _read_sizes(images, files, sizes, exif, changes)
        for number, annotation in enumerate(annotations, start=1):
            if annotation.get("category_id") == category.id:
                name = f"annotation {annotation.get('id', f'number {number}')}"
                with reading(f"{path}: {name}", "an annotation"):
                    _complete(annotation, category, f"{path}: {name}", name, changes)
        of_category = [one for one in annotations if one.get("category_id") == category.id]
        others = sum(one["num_keypoints"] > 1 for one in of_category)
        if changes.counts[SHARES] and changes.counts[SHARES] >= others:
            found = "all joints lie between 0 and 1, expected px, not shares of the image"
            raise UserError(f"{path}: {changes.first[SHARES]}: {found}")
        ids = [annotation.get("id") for annotation in annotations]
        uses = Counter(map(repr, ids))
        if wrong := [one for one in ids if type(one) is not int or one < 1 or uses[repr(one)] > 1]:
            _number_anew(annotations)
            kind = "annotation ids missing, below 1 or twice, all numbered anew"
            changes.add(kind, repr(wrong[0]), len(ids))
    raw = check_annotations(path, content, category.skeleton)
    if raw.num_others:
        first = next(one for one in annotations if one["category_id"] != category.id)
        name = next(one["name"] for one in content["categories"] if one["id"] == first["category_id"])
        where = f"annotation {first['id']} of {name!r}"
        changes.add("annotations of other categories, left out", where, raw.num_others)
    return Normalised(replace(raw, lacking=category.lacking), files, changes)


def with_own_ids(files: Sequence[Normalised]) -> list[Normalised]:
    """The files with ids of their own: all are numbered anew where two have the same, as tools begin with 1.

    People get the category id of the first file. UserError if an image is in two files.
    """
    first_file: dict[Path, int] = {}
    for number, one in enumerate(files):
        for file in one.files:
            first = number if file.missing else first_file.setdefault(file.path, number)
            if first != number:  # of the same path where a source is given twice
                found = f"image {file.path} is in {files[first].raw.path} too"
                raise UserError(f"{one.raw.path}: {found}, expected it in one file")
    kinds = {
        "image": [image for one in files for image in one.raw.images],
        "annotation": [person for one in files for people in one.raw.people_of.values() for person in people],
    }
    shared = [kind for kind, entries in kinds.items() if len({one["id"] for one in entries}) < len(entries)]
    for kind in shared:
        _number_anew(kinds[kind])
    return [_with_ids_of_images(one, files[0].raw, " and ".join(shared)) for one in files]


def same_image(first: Normalised, second: Normalised) -> str | None:
    """An id of both files that is of the same image, by its name and, as far as it is there, its content."""
    image_of = {entry["id"]: (entry["file_name"], file) for entry, _, file in first.images()}
    for entry, _, file in second.images():
        name, other = image_of.get(entry["id"], ("", file))
        is_unknown = file.missing or other.missing
        if name == entry["file_name"] and (is_unknown or filecmp.cmp(file.path, other.path, shallow=False)):
            return f"image {entry['id']} is in {first.raw.path.name} too"
    return None


def _with_ids_of_images(own: Normalised, first: RawCoco, changed: str) -> Normalised:
    """The file whose people say the ids that its images have, and the category id of the first file.

    changed: kinds of ids that are new.
    """
    raw, changes = own.raw, own.changes
    if changed and raw.images:
        kind = f"{changed} ids that another source has too, all numbered anew"
        changes.add(kind, str(raw.path), len(raw.images))
    if raw.category != first.category:
        count = sum(map(len, raw.people_of.values()))
        changes.add(f"category id of people made that of {first.path.name}", str(raw.category), count)
    numbers = [image["id"] for image in raw.images]
    people_of = dict(zip(numbers, raw.people_of.values(), strict=True))
    for number, people in people_of.items():
        for person in people:
            person.update(image_id=number, category_id=first.category)
    return replace(own, raw=replace(raw, people_of=people_of, category=first.category))


def _number_anew(entries: Sequence[Entry]) -> None:
    for number, entry in enumerate(entries, start=1):
        entry["id"] = number


def _to_whole_numbers(entries: Sequence[Entry], keys: Sequence[str], changes: Changes) -> None:
    """`"12"`, 12.0 and, of iscrowd, False become whole numbers."""
    for entry in entries:
        for key in keys:
            value = entry.get(key)
            if type(value) is int or value is None:
                continue
            is_text = isinstance(value, str) and value.isdecimal() and len(value) < 20
            is_whole = isinstance(value, float) and value.is_integer()
            if is_text or is_whole or (key == "iscrowd" and isinstance(value, bool)):
                changes.add(f"{key} read as a whole number", repr(value))
                entry[key] = int(value)


def _has_size(annotation: Entry) -> bool:
    """Whether it has an RLE that says how large the image is."""
    outline = annotation.get("segmentation")
    size = outline.get("size") if isinstance(outline, dict) else None
    return isinstance(size, list) and len(size) == 2 and all(type(one) is int and one > 0 for one in size)


def _read_sizes(
    images: Sequence[Entry],
    files: Sequence[ImageFile],
    of_rle: Mapping[Any, list[int]],
    exif: str,
    changes: Changes,
) -> None:
    """Width and height that are missing, from an RLE or the image; of one that cannot be read UNKNOWN_SIZE.

    of_rle: height and width by the image's id.
    """

    def attempt(file: ImageFile) -> tuple[tuple[int, ...], bool] | None:
        try:
            data, image_HW3 = read_raw_image(file.path, upright=exif == "upright")
        except Unusable:
            return None
        return image_HW3.shape[1::-1], exif_orientation(data) > 1

    unknown = []
    for image, file in zip(images, files, strict=True):
        if image.get("width") and image.get("height"):
            continue
        image["width"], image["height"] = UNKNOWN_SIZE
        if size := of_rle.get(image.get("id")):
            image["height"], image["width"] = size
            changes.add("width and height missing, read from an RLE", image["file_name"])
        elif not file.missing:
            unknown.append((image, file))
    if not unknown:
        return
    with in_threads(attempt, [file for _, file in unknown], "reading sizes") as found:
        for (image, _), size_and_exif in zip(unknown, found, strict=True):
            if size_and_exif is None:
                continue
            (image["width"], image["height"]), is_turned = size_and_exif
            changes.add("width and height missing, read from the image", image["file_name"])
            if is_turned:
                changes.add(SIZE_BY_EXIF.format(exif), image["file_name"])


# --- annotations of people ---


def _complete(annotation: Entry, category: Category, where: str, name: str, changes: Changes) -> None:
    """Add what is missing. name: of the annotation in notes; `where` has its file too."""
    if not annotation.get("keypoints"):
        changes.add("without keypoints: people without labelled joints", name)
        annotation["keypoints"] = [0] * 3 * len(category.joints)
    parse(Keypoints, annotation, where, context=category.joints)
    numbers = annotation["keypoints"] = category.keypoints(annotation["keypoints"])
    joints = [(x, y) for x, y, flag in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True) if flag]
    if len(joints) > 1 and max(map(max, joints)) <= 1 and min(map(min, joints)) >= 0:
        changes.add(SHARES, name)  # some tools write skipped points so
        numbers = annotation["keypoints"] = [0] * len(numbers)
        joints = []
    if (said := annotation.get("num_keypoints")) != len(joints):
        changes.add(f"num_keypoints {'missing' if said is None else 'wrong'}, flags counted instead", name)
    annotation["num_keypoints"] = len(joints)
    if annotation.get("iscrowd") is None:
        changes.add("iscrowd missing, taken for 0", name)
        annotation["iscrowd"] = 0
    outline = annotation.get("segmentation")
    if isinstance(outline, list) and outline and not isinstance(outline[0], list):
        changes.add("segmentation without its outer list", name)
        annotation["segmentation"] = [outline]
    _complete_box(annotation, joints, name, changes)
    masked = annotation["iscrowd"] or not joints
    if masked and not annotation.get("segmentation") and 0 not in annotation["bbox"][2:]:
        x, y, width, height = annotation["bbox"]
        corners = [x, y, x + width, y, x + width, y + height, x, y + height]
        annotation["segmentation"] = [corners]
        kind = "crowd" if annotation["iscrowd"] else "person without joints and"
        changes.add(f"{kind} without its region, its box taken", name)
    _complete_area(annotation, joints, name, changes)


def _complete_box(annotation: Entry, joints: list[Any], name: str, changes: Changes) -> None:
    box = annotation.get("bbox")
    if box and (not joints or len(box) != 4 or 0 not in box[2:]):
        return
    corners = [
        pair for polygon in _polygons(annotation) for pair in zip(polygon[::2], polygon[1::2], strict=False)
    ]
    low, high = _extent(joints + corners)
    annotation["bbox"] = [*low, high[0] - low[0], high[1] - low[1]]
    changes.add("bbox missing or empty, put around joints and outline", name)


def _complete_area(annotation: Entry, joints: list[Any], name: str, changes: Changes) -> None:
    """Derive an area that is missing or negative, or that is none in px of somebody who has joints.

    OKS measures distances by its root: with an area of 1 nobody would ever be found. A negative one, of
    somebody without joints, would forgive people found anywhere.
    """
    area: Any = annotation.get("area")
    if isinstance(area, str):
        return  # which the check names
    low, high = _extent(joints)
    spanned = (high[0] - low[0]) * (high[1] - low[1])
    is_missing = area is None or area == []
    if not is_missing and (area > max(LEAST_AREA, LEAST_FILLED * spanned) if joints else area >= 0):
        return
    outlined = _outlined_area(annotation)
    if not is_missing and outlined <= 2 * area and area > LEAST_AREA and outlined:
        return  # somebody of whom little is seen
    _, _, width, height = annotation["bbox"]
    if outlined <= LEAST_AREA or outlined > 0.99 * width * height:  # none, or the box drawn as a polygon
        outlined = 0.0
    source = "the outline" if outlined else f"{FILLED} of the box"
    annotation["area"] = round(outlined or FILLED * max(width * height, spanned), 2)
    changes.add(f"area {'missing' if is_missing else 'not that of a person'}, {source} taken", name)
    if joints and annotation["area"] <= LEAST_AREA:
        changes.add("without any size to score by: people without labelled joints", name)
        annotation.update(keypoints=[0] * len(annotation["keypoints"]), num_keypoints=0)


def _extent(points: Sequence[Any]) -> tuple[list[float], list[float]]:
    """Least and greatest x, y; zeros without a point."""
    x, y = zip(*points, strict=True) if points else ((0,), (0,))
    return [min(x), min(y)], [max(x), max(y)]


def _polygons(annotation: Entry) -> list[list[float]]:
    outline = annotation.get("segmentation") or []
    return [] if isinstance(outline, dict) else [one for one in outline if len(one) >= MIN_POLYGON]


def _outlined_area(annotation: Entry) -> float:
    """Px within the outline, 0 if there is none."""
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        if isinstance(outline["counts"], list):
            return float(sum(outline["counts"][1::2]))
        from pycocotools import mask

        return float(mask.area(outline))
    area = 0.0
    for polygon in _polygons(annotation):
        x_N, y_N = np.array(polygon[: len(polygon) // 2 * 2], dtype=np.float64).reshape(-1, 2).T
        area += abs(float(x_N @ np.roll(y_N, 1) - y_N @ np.roll(x_N, 1))) / 2
    return area
