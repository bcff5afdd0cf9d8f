"""Annotation files that differ from COCO's own: what is derived, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_files import (
    annotation_file_content,
    coco_params,
    image_entry,
    person_entry,
    prepare_images,
    write_annotations,
)
from helpers import column, user_error
from raw_sets import TRAIN_FILE, rewrite_train, write_two_splits

from pose.data.image_set import ImageSet
from pose.data.prepare.summary import Summary

Entry = dict[str, Any]


def prepared_person(root: Path) -> tuple[Entry, Summary]:
    """The first annotation as the scorer gets it."""
    images, summary = prepare_images(root)
    return json.loads(images.annotations("train").read_text())["annotations"][0], summary


def prepared_with(root: Path, *more: Entry) -> tuple[ImageSet, Summary]:
    """What two people and further annotations are prepared to."""
    content = write_two_splits(root)
    content["annotations"] += more
    rewrite_train(root, content)
    return prepare_images(root)


# ---- people ----

RLE = {"size": [60, 80], "counts": [600, 700, 3500]}
OUTLINE = [[10, 8, 58, 8, 58, 40, 10, 8]]


@pytest.mark.parametrize(
    ("written", "area", "note"),
    [
        ({"area": 0, "segmentation": []}, 0.53 * 2000, "not that of a person, 0.53 of the box taken: 1"),
        ({"area": -1, "segmentation": []}, 0.53 * 2000, "not that of a person, 0.53 of the box taken: 1"),
        ({"area": 1.0}, 0.53 * 2000, "0.53 of the box taken: 1 (first: annotation 1)"),  # outline: the box
        ({"area": None, "segmentation": OUTLINE}, 768, "area missing, the outline taken: 1"),
        ({"area": 50, "segmentation": OUTLINE}, 768, "area not that of a person, the outline taken: 1"),
        ({"area": 0, "segmentation": RLE}, 700, "the outline taken: 1"),
        # Of somebody hardly seen, as in COCO.
        ({"area": 30, "segmentation": [[10, 8, 18, 8, 18, 12]]}, 30, ""),
        ({"area": 1.0, "segmentation": [[10, 8, 11, 8, 11, 9, 10, 9]]}, 0.53 * 2000, "0.53 of the box taken"),
        ({"area": 300, "segmentation": []}, 300, ""),
    ],
)
def test_an_area_that_is_none_is_taken_from_the_outline_or_the_box(tmp_path, written, area, note):
    write_two_splits(tmp_path, **written)
    person, summary = prepared_person(tmp_path)
    assert person["area"] == pytest.approx(area)
    assert note in str(summary)
    assert (": area" in str(summary)) == bool(note)


def test_a_negative_area_of_people_without_joints_is_derived_too(tmp_path):
    content = write_two_splits(tmp_path)
    content["annotations"].insert(0, person_entry(4, 1, joints=0, area=-1, segmentation=OUTLINE))
    rewrite_train(tmp_path, content)
    assert prepared_person(tmp_path)[0]["area"] == 768


def test_a_box_that_is_missing_is_put_around_joints_and_outline(tmp_path):
    write_two_splits(tmp_path, bbox=[0, 0, 0, 0], area=None, segmentation=[])
    person, summary = prepared_person(tmp_path)
    assert person["bbox"] == [10, 8, 48, 32]
    assert person["area"] == pytest.approx(0.53 * 48 * 32)
    assert "bbox missing or empty, put around joints and outline: 1 (first: annotation 1)" in str(summary)


def test_a_crowd_without_a_region_is_masked_by_its_box(tmp_path):
    box = {"bbox": [60, 40, 10, 12], "area": 120, "iscrowd": True}
    images, summary = prepared_with(tmp_path, {"id": 4, "image_id": 1, "category_id": 1} | box)
    mask_HW = images.mask(0)
    assert not mask_HW[40:52, 60:70].any()
    assert (~mask_HW).sum() == 120
    assert "crowd without its region, its box taken: 1 (first: annotation 4)" in str(summary)


def test_flags_are_counted_whatever_num_keypoints_says(tmp_path):
    write_two_splits(tmp_path, num_keypoints=0)
    images, summary = prepare_images(tmp_path)
    assert summary.counts["train", "people"] == len(images.rows("train")) == 2
    assert "num_keypoints wrong, flags counted instead: 1 (first: annotation 1)" in str(summary)


def test_one_joint_without_any_size_cannot_be_scored(tmp_path):
    keypoints = person_entry(1, 1, joints=1)["keypoints"]
    bare = {"id": 4, "image_id": 1, "category_id": 1, "keypoints": keypoints}
    images, summary = prepared_with(tmp_path, bare)
    assert column(images, "annotation") == [1, 2, 3]
    note = "without any size to score by: people without labelled joints: 1 (first: annotation 4)"
    assert note in str(summary)


def test_a_person_without_joints_and_region_is_masked_by_the_box(tmp_path):
    person = person_entry(4, 1, joints=0, segmentation=[], bbox=[50, 10, 20, 30])
    images, summary = prepared_with(tmp_path, person)
    assert not images.mask(images.rows("train")[0])[10:40, 50:70].any()
    assert "person without joints and without its region, its box taken: 1" in str(summary)


def test_a_person_whose_joints_lie_in_one_pixel_costs_no_other(tmp_path):
    point = person_entry(5, 2, keypoints=[0, 0, 2] * 17)
    _, summary = prepared_with(tmp_path, person_entry(4, 1), point)
    assert "all joints between 0 and 1, taken for unlabelled: 1 (first: annotation 5)" in str(summary)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keypoints": [1] * 15 + [float("nan")] + [1] * 35}, "left_shoulder has x nan, expected"),
        ({"keypoints": [[1, 1, 2]] * 17}, "found 17 entries, expected 51: x, y and flag of 17 joints"),
        ({"keypoints": [0.2, 0.31, 2] * 17}, "all joints lie between 0 and 1, expected px, not shares of"),
        ({"keypoints": [10, 12, 2]}, "keypoints: found 3 entries, expected 51"),
        ({"category_id": 1, "iscrowd": 0.5}, "iscrowd: found 0.5, .*0 or 1"),
        ({"area": "large"}, "area: found 'large', .*number"),
        ({"bbox": [1, 2, 3]}, r"bbox: found \[1, 2, 3\], .*4 items"),
        ({"segmentation": "outline"}, "segmentation.*found 'outline'"),
    ],
)
def test_what_cannot_be_derived_is_named(tmp_path, change, message):
    write_two_splits(tmp_path, **change)
    with user_error(f"{TRAIN_FILE}: annotation 1: .*{message}"):
        prepare_images(tmp_path)


# ---- categories ----


def test_categories_of_the_same_joints_are_one_unless_they_have_one_name(tmp_path):
    content = write_two_splits(tmp_path)
    content["categories"].append(content["categories"][0] | {"id": 2, "name": "skater"})
    content["annotations"][1]["category_id"] = 2
    rewrite_train(tmp_path, content)
    _, summary = prepare_images(tmp_path)
    assert "of a second category of people: 1 (first: annotation 2)" in str(summary)
    content["categories"][1]["name"] = "person"
    rewrite_train(tmp_path, content)
    with user_error(r"found two categories 'person', expected a name of its own for each"):
        prepare_images(tmp_path)


def test_people_of_a_category_without_joints_are_people_without_labelled_joints(tmp_path):
    content = write_two_splits(tmp_path)
    content["categories"].append({"id": 2, "name": "people"})
    person = {"id": 7, "image_id": 1, "category_id": 2, "bbox": [60, 40, 9, 9], "area": 81}
    content["annotations"].append(person)
    rewrite_train(tmp_path, content)
    images, summary = prepare_images(tmp_path)
    assert "of a second category of people: 1 (first: annotation 7)" in str(summary)
    written = json.loads(images.annotations("train").read_text())
    assert [one["category_id"] for one in written["annotations"]] == [1, 1, 1]
    assert [one["name"] for one in written["categories"]] == ["person"]


def test_joints_in_another_order_are_put_into_coco_s(tmp_path):
    content = write_two_splits(tmp_path)
    expected = prepare_images(tmp_path)[0].joint_NK2
    joints = content["categories"][0]["keypoints"]
    joints[1], joints[2] = joints[2], joints[1]
    for annotation in content["annotations"]:
        numbers = annotation["keypoints"]
        numbers[3:6], numbers[6:9] = numbers[6:9], numbers[3:6]
    rewrite_train(tmp_path, content)
    images, summary = prepare_images(tmp_path)
    np.testing.assert_array_equal(images.joint_NK2, expected)
    assert "joints put into the order of coco: 1 (first: 'nose')" in str(summary)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda joints: joints[:-1], "found no 'right_ankle', one of the joints of coco, expected these"),
        (lambda joints: ["tail", *joints[1:]], "found 'tail' is none of the joints of coco, expected these"),
        (lambda joints: [1, 2], r"keypoints: found \[1, 2\], expected a list of names"),
    ],
)
def test_other_joints_are_refused_whatever_is_assumed(tmp_path, change, message):
    content = write_two_splits(tmp_path)
    content["categories"][0]["keypoints"] = change(content["categories"][0]["keypoints"])
    rewrite_train(tmp_path, content)
    with user_error(message):
        prepare_images(tmp_path, coco_params(assume_joints=True))


def test_people_have_one_category_in_both_files(tmp_path):
    content = write_two_splits(tmp_path)
    content["categories"][0]["id"] = 5
    for annotation in content["annotations"]:
        annotation["category_id"] = 5
    rewrite_train(tmp_path, content)
    images, summary = prepare_images(tmp_path)
    written = json.loads(images.annotations("validation").read_text())
    assert written["annotations"][0]["category_id"] == written["categories"][0]["id"] == 5
    assert "category id of people made that of person_keypoints_train2017.json: 1 (first: 1)" in str(summary)


# ---- ids in both files ----


def write_clash(root: Path) -> None:
    """The val file begins its ids anew."""
    write_two_splits(root)
    write_annotations(root, "val2017", [image_entry(1, "other.jpg")], [person_entry(1, 1)])


def test_ids_that_begin_anew_in_the_val_file_are_numbered_anew(tmp_path):
    write_clash(tmp_path)
    images, summary = prepare_images(tmp_path)
    assert images.id_I.tolist() == column(images, "annotation") == [1, 2, 3]
    assert [images.name(row) for row in images.rows("validation")] == ["val2017/other.jpg"]
    note = "val2017.json: image and annotation ids that another source has too, all numbered anew: 1"
    assert note in str(summary)


def test_an_id_in_both_files_is_refused_where_ids_say_which_validate(tmp_path):
    write_clash(tmp_path)
    (tmp_path / "coco" / "valid_id").write_text("1\n")
    found = "val2017.json: image 1 is in person_keypoints_train2017.json too"
    with user_error(f"{found}, expected an id in one file, since .*valid_id"):
        prepare_images(tmp_path)


def test_an_image_of_one_id_in_both_files_is_refused(tmp_path):
    write_two_splits(tmp_path)
    write_annotations(tmp_path, "val2017", [image_entry(1)], [person_entry(1, 1)])
    found = "val2017.json: image 1 is in person_keypoints_train2017.json too"
    with user_error(f"{found}, expected an image in one file"):
        prepare_images(tmp_path)


def test_a_file_that_both_files_name_is_refused(tmp_path):
    write_two_splits(tmp_path)
    content = annotation_file_content([image_entry(3, "../train2017/000000000001.jpg")], [person_entry(3, 3)])
    path = tmp_path / "coco" / TRAIN_FILE.replace("train", "val")
    path.write_text(json.dumps(content))
    for file in (tmp_path / "coco" / "val2017").iterdir():
        file.unlink()
    with user_error(r"image .*train2017/000000000001.jpg is in .*person_keypoints_train2017.json"):
        prepare_images(tmp_path)
