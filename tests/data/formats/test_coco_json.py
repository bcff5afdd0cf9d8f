"""COCO's annotation files, with mistakes in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_files import annotation_file_content, crowd_entry, image_entry, person_entry
from helpers import COCO, SIZE, noise, user_error

from pose.data.formats.coco_json import read_annotations, read_valid_ids, region
from pose.io.errors import UserError

Change = Callable[[dict[str, Any]], Any]
RLE = {"size": [60, 80], "counts": [600, 700, 3500]}


def write_file(folder: Path, content: Any) -> Path:
    path = folder / "person_keypoints_train2017.json"
    path.write_text(json.dumps(content))
    return path


def set_person(**values: Any) -> Change:
    return lambda content: content["annotations"][0].update(values)


def set_crowd(**values: Any) -> Change:
    return lambda content: content["annotations"][1].update(segmentation=RLE | values)


def set_image(**values: Any) -> Change:
    return lambda content: content["images"][0].update(values)


def set_joints(joints: list[str]) -> Change:
    return lambda content: content["categories"][0].update(keypoints=joints)


SWAPPED = [COCO.joints[0], COCO.joints[2], COCO.joints[1], *COCO.joints[3:]]
MISTAKES: dict[str, tuple[Change, str]] = {
    "no categories": (lambda content: content.pop("categories"), "missing: 'categories'"),
    "no person": (
        lambda content: content["categories"][0].update(name="dog", keypoints=[]),
        "found categories 'dog', expected one with the 17 joints of coco",
    ),
    "16 joints of the category": (
        set_joints(list(COCO.joints[:16])),
        "category 'person': keypoints, joint 17 of 16: found None, expected 'right_ankle'",
    ),
    "joints in another order": (
        set_joints(SWAPPED),
        "category 'person': keypoints, joint 2 of 17: found 'right_eye', expected 'left_eye'",
    ),
    "no joints of the category": (
        lambda content: content["categories"][0].pop("keypoints"),
        "category 'person': found no keypoints, expected the 17 of coco",
    ),
    "16 joints": (
        set_person(keypoints=[1, 2, 2] * 16),
        "annotation 1: keypoints: found 48 entries, expected 51: x, y and flag of 17 joints",
    ),
    "joints as pairs": (set_person(keypoints=[[1, 2]] * 17), "keypoints: found 17 entries, expected 51"),
    "no joints": (
        lambda content: content["annotations"][0].pop("keypoints"),
        "annotation 1: missing key keypoints",
    ),
    "word as joint": (set_person(keypoints=["1"] * 51), "keypoints: nose has x '1', expected a number"),
    "null as joint": (
        set_person(keypoints=[1, 1, 2] * 5 + [7, None, 2] + [1, 1, 2] * 11),
        "annotation 1: keypoints: left_shoulder has y None, expected a number",
    ),
    "NaN as joint": (
        set_person(keypoints=[1, 1, 2] * 16 + [float("nan"), 1, 2]),
        "annotation 1: keypoints: right_ankle has x nan, expected a number",
    ),
    "flag": (set_person(keypoints=[1, 1, 2] * 16 + [1, 1, 3]), "right_ankle has flag 3, expected 0, 1 or 2"),
    "area": (set_person(area="large"), "annotation 1: area: found 'large', .*number"),
    "box": (set_person(bbox=[1, 2, 3]), r"annotation 1: bbox: found \[1, 2, 3\], .*4 items"),
    "unknown image": (set_person(image_id=7), "annotation 1: found image_id 7, expected one that the file"),
    "unknown category": (set_person(category_id=7), "annotation 1: found category_id 7, expected one that"),
    "annotation 0": (set_person(id=0), "annotation 0: id: found 0, .*greater than or equal to 1"),
    "annotation twice": (
        lambda content: content["annotations"].append(person_entry(1, 1)),
        "annotation 1 is listed twice",
    ),
    "image twice": (lambda content: content["images"].append(image_entry(1)), "image 1 is listed twice"),
    "no file name": (lambda content: content["images"][0].pop("file_name"), "image 1: missing key file_name"),
    "name out of the folder": (
        set_image(file_name="../../a.jpg"),
        r"file_name '\.\./\.\./a.jpg' is not usable",
    ),
    "id that is a word": (set_image(id="one"), "image 'one': id: found 'one', .*integer"),
    "no width": (set_image(width=0), "image 1: width: found 0, .*greater than or equal to 1"),
    "more pixels than any image": (
        set_image(width=10**5, height=10**5),
        "image 1: found 100000 x 100000 px, expected 250,000,000 px at most",
    ),
    "RLE of another size": (set_crowd(size=[80, 60]), r"an RLE of size \[80, 60\], .*expected \[60, 80\]"),
    "RLE too short": (set_crowd(counts=[600, 700]), r"or of other run lengths, expected \[60, 80\]"),
    "RLE with a negative run": (set_crowd(counts=[-600, 700, 4700]), "annotation 2: segmentation"),
    "compressed RLE cut short": (set_crowd(counts="`"), r"annotation 2: .*RLE \(Invalid RLE"),
    "RLE of words": (set_crowd(counts=["a"]), "annotation 2: segmentation"),
    "crowd without region": (
        lambda content: content["annotations"][1].update(segmentation=[]),
        "is a crowd without segmentation",
    ),
    "corner far away": (set_person(segmentation=[[1, 2, 3, 4, 5, 1e9]]), "annotation 1: segmentation"),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_in_one_line(tmp_path, change, message):
    content = annotation_file_content([image_entry(1)], [person_entry(1, 1), crowd_entry(2, 1)])
    change(content)
    path = write_file(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        read_annotations(path, COCO)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("text", ["", "[1]", '{"images": [', "\xff"])
def test_a_file_that_is_no_annotation_file_is_named(tmp_path, text):
    path = tmp_path / "person_keypoints_train2017.json"
    path.write_bytes(text.encode("latin-1"))
    with user_error(r"person_keypoints_train2017.json: cannot be read as"):
        read_annotations(path, COCO)


def test_a_compressed_crowd_is_the_same_crowd(tmp_path):
    from pycocotools import mask

    inside_HW = cv2.resize(noise(3)[..., 0], SIZE) > 128
    counts = mask.encode(np.asfortranarray(inside_HW.astype(np.uint8)))["counts"].decode()
    crowd = crowd_entry(2, 1) | {"segmentation": {"size": [60, 80], "counts": counts}}
    path = write_file(tmp_path, annotation_file_content([image_entry(1)], [crowd]))
    np.testing.assert_array_equal(region(read_annotations(path, COCO).people_of[1][0], 60, 80), inside_HW)


def test_a_word_among_the_ids_is_named_with_its_line(tmp_path):
    path = tmp_path / "valid_id"
    path.write_text("262145\r\n\n393223\n")
    assert read_valid_ids(path) == {262145, 393223}
    path.write_text("262145\n393223\ncat\n")
    with user_error(r"valid_id: line 3: cannot be read as an image id .*'cat'"):
        read_valid_ids(path)
