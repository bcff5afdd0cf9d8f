"""Whether people who are found exactly as annotated score an AP of 1."""

from pathlib import Path
from typing import Any

from coco_files import annotation_file_content, image_entry, person_entry, prepare_images, write_annotations
from helpers import COCO, user_error

from pose.data.formats.coco_json import check_annotations
from pose.metrics.truth import check_truth

SIZE = 640, 480


def notes_on(*people: dict[str, Any], images: int = 1) -> list[str]:
    entries = [image_entry(number, size=SIZE) for number in range(1, images + 1)]
    content = annotation_file_content(entries, list(people))
    return check_truth(check_annotations(Path("truth.json"), content, COCO))


def someone(number: int, image: int = 1, **changes: Any) -> dict[str, Any]:
    """A person who stands apart from those of other numbers."""
    person = person_entry(number, image)
    person["keypoints"][::3] = [x + 22 * number for x in person["keypoints"][::3]]
    return person | changes


def test_of_people_who_can_be_scored_there_is_nothing_to_note():
    assert notes_on(*[someone(number) for number in range(1, 21)], person_entry(21, 1, joints=0)) == []


def test_the_annotations_stay_as_they_are():
    people = [someone(1), someone(2)]
    before = [dict(person) for person in people]
    notes_on(*people)
    assert people == before


def test_more_than_twenty_people_of_an_image_are_noted():
    [note] = notes_on(*[someone(number) for number in range(1, 24)])
    assert "found exactly as annotated, people score AP 0.8" in note
    assert "3 are not counted (first: annotation 21 of image 1); 3 stand in images of more than 20" in note


def test_people_whom_the_metric_never_counts_are_refused():
    with user_error(r"truth\.json: .* score AP 0.000: 1 are not counted .*, expected AP 1"):
        notes_on(someone(1, area=1e11))


def test_a_split_in_which_nobody_has_a_labelled_joint_is_refused(tmp_path):
    with user_error(r"truth\.json: none of 2 people has a labelled joint, expected some"):
        notes_on(person_entry(1, 1, joints=0), person_entry(2, 2, joints=0), images=2)


def test_a_preparation_ends_with_the_notes_on_each_split(tmp_path):
    people = [someone(number) for number in range(1, 23)]
    write_annotations(tmp_path, "train2017", [image_entry(1, size=SIZE)], people)
    write_annotations(tmp_path, "val2017", [image_entry(2)], [person_entry(99, 2)])
    _, summary = prepare_images(tmp_path)
    assert "train: found exactly as annotated, people score AP 0.9" in str(summary)
    assert "validation: found" not in str(summary)
