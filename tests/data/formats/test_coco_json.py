"""COCO's annotation files, with mistakes in them."""

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_files import annotation_file_content, crowd_entry, image_entry, person_entry
from helpers import COCO, SIZE, noise, user_error

from pose.data.formats.coco_json import read_annotations, read_valid_ids, region

RLE = {"size": [60, 80], "counts": [600, 700, 3500]}


def write_file(folder: Path, content: Any) -> Path:
    path = folder / "person_keypoints_train2017.json"
    path.write_text(json.dumps(content))
    return path


ABSENT = object()
PLACES = {"category": ("categories", 0), "image": ("images", 0), "person": ("annotations", 0)}
PLACES["crowd"] = "annotations", 1
SWAPPED = [COCO.joints[0], COCO.joints[2], COCO.joints[1], *COCO.joints[3:]]
# Values of an entry, and what is said of them.
MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("category", {"name": "dog", "keypoints": []}, "found categories 'dog', expected one with the 17"),
    ("category", {"keypoints": COCO.joints[:16]}, "found categories 'person', expected one with the 17"),
    ("category", {"keypoints": SWAPPED}, "found categories 'person', expected one with the 17"),
    ("category", {"keypoints": ABSENT}, "found categories 'person', expected one with the 17"),
    ("person", {"keypoints": [1, 2, 2] * 16}, "annotation 1: keypoints: found 48 entries, expected 51: x, y"),
    ("person", {"keypoints": [[1, 2]] * 17}, "keypoints: found 17 entries, expected 51"),
    ("person", {"keypoints": ABSENT}, "annotation 1: missing key keypoints"),
    ("person", {"keypoints": ["1"] * 51}, "keypoints: nose has x '1', expected a number"),
    ("person", {"keypoints": [7, None, 2] * 17}, "keypoints: nose has y None, expected a number"),
    ("person", {"keypoints": [1] * 48 + [math.nan, 1, 2]}, "right_ankle has x nan, expected a number"),
    ("person", {"keypoints": [1] * 50 + [3]}, "right_ankle has flag 3, expected 0, 1 or 2"),
    ("person", {"area": "large"}, "annotation 1: area: found 'large', .*number"),
    ("person", {"bbox": [1, 2, 3]}, r"annotation 1: bbox: found \[1, 2, 3\], .*4 items"),
    ("person", {"image_id": 7}, "annotation 1: found image_id 7, expected one that the file"),
    ("person", {"category_id": 7}, "annotation 1: found category_id 7, expected one that"),
    ("person", {"id": 0}, "annotation 0: id: found 0, .*greater than or equal to 1"),
    ("person", {"id": 2}, "annotation 2 is listed twice"),
    ("person", {"segmentation": [[1, 2, 3, 4, 5, 1e9]]}, "annotation 1: segmentation"),  # a corner far away
    ("image", {"file_name": ABSENT}, "image 1: missing key file_name"),
    ("image", {"file_name": "../../a.jpg"}, r"file_name '\.\./\.\./a.jpg' is not usable"),
    ("image", {"id": 9}, "image 9 is listed twice"),
    ("image", {"id": "one"}, "image 'one': id: found 'one', .*integer"),
    ("image", {"width": 0}, "image 1: width: found 0, .*greater than or equal to 1"),
    ("image", {"width": 10**5, "height": 10**5}, "image 1: found 100000 x 100000 px, expected 250,000,000"),
    ("crowd", {"segmentation": RLE | {"size": [80, 60]}}, r"RLE of size \[80, 60\], .*expected \[60, 80\]"),
    ("crowd", {"segmentation": RLE | {"counts": [600, 700]}}, r"of other run lengths, expected \[60, 80\]"),
    ("crowd", {"segmentation": RLE | {"counts": [-600, 700, 4700]}}, "annotation 2: segmentation"),
    ("crowd", {"segmentation": RLE | {"counts": "`"}}, r"annotation 2: .*RLE \(Invalid RLE"),  # cut short
    ("crowd", {"segmentation": RLE | {"counts": ["a"]}}, "annotation 2: segmentation"),
    ("crowd", {"segmentation": []}, "is a crowd without segmentation"),
]


@pytest.mark.parametrize(("place", "values", "message"), MISTAKES)
def test_a_mistake_is_named_in_one_line(tmp_path, place, values, message):
    images, people = [image_entry(1), image_entry(9)], [person_entry(1, 1), crowd_entry(2, 1)]
    content = annotation_file_content(images, people)
    name, number = PLACES[place]
    changed = content[name][number] | values
    content[name][number] = {key: value for key, value in changed.items() if value is not ABSENT}
    path = write_file(tmp_path, content)
    with user_error(f"^{path}: .*{message}"):
        read_annotations(path, COCO)


def test_a_file_without_categories_is_named(tmp_path):
    content = annotation_file_content([image_entry(1)], [person_entry(1, 1)])
    del content["categories"]
    with user_error(r"train2017\.json: .*missing: 'categories'"):
        read_annotations(write_file(tmp_path, content), COCO)


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
