"""What a data set holds, in numbers, and what looks wrong in it."""

from dataclasses import replace

import numpy as np
import pytest

from pose.keypoints.skeleton import Skeleton
from pose.metrics.statistics import Statistics, find_faults

JOINTS = ("nose", "l_eye", "r_eye", "l_hip", "r_hip", "l_knee", "r_knee")
BODY = Skeleton.model_validate({"name": "body", "joints": JOINTS, "sigmas": [0.1] * 7})
# Left is right in the image, as of people who face the camera.
FRONT_K2 = np.array([[50, 20], [55, 15], [45, 15], [60, 60], [40, 60], [58, 80], [42, 80]], dtype=float)


def people(count: int = 20, joint_K2: np.ndarray = FRONT_K2, skeleton: Skeleton = BODY) -> Statistics:
    """So many in images of 200 x 100 px, two in each, every one a little further to the right."""
    joint_NK2 = joint_K2 + np.arange(count)[:, None, None] * [1.5, 0]
    low_N2, high_N2 = joint_NK2.min(axis=1) - 5, joint_NK2.max(axis=1) + 5
    return Statistics(
        skeleton=skeleton,
        joint_NK2=joint_NK2,
        flag_NK=np.full(joint_NK2.shape[:2], 2),
        box_N4=np.concatenate([low_N2, high_N2 - low_N2], axis=1),
        image_N2=np.tile([200, 100], (count, 1)),
        people_I=np.full(count // 2, 2),
    )


def faults(train: Statistics, validation: Statistics | None = None, input_size: int = 128) -> list[str]:
    other = people(joint_K2=FRONT_K2 + 0.25, skeleton=train.skeleton)
    return find_faults({"train": train, "validation": validation or other}, input_size=input_size, crop=1.25)


def test_nothing_is_wrong_with_people_as_they_should_be():
    assert faults(people()) == []


def test_sizes_are_those_of_the_longer_side_and_boxes_at_the_border_are_counted():
    found = people(4)
    np.testing.assert_array_equal(found.size_N, [75] * 4)
    np.testing.assert_array_equal(found.share_N, [75 / 200] * 4)
    box_N4 = np.array([[0.5, 20, 50, 50], [20, 20, 179.5, 50], [1, 1, 198, 98], [20, 20, 50, 50]])
    assert replace(found, box_N4=box_N4).at_border_N.tolist() == [True, True, False, False]


def test_a_split_is_one_line_of_numbers():
    found = people(4)
    found.flag_NK[0] = [0, 1, 1, 1, 2, 2, 2]
    assert str(found) == (
        "2 images, 4 people, 2.0 each; longer side 75 to 75 px, median 75 (38% of the image's);"
        " 0% at the border; 96% of joints labelled, 11% of these hidden"
    )


def test_a_joint_that_is_never_labelled_is_named_with_its_split():
    train, validation = people(), people(joint_K2=FRONT_K2 + 0.25)
    validation.flag_NK[:, :2] = 0
    assert faults(train, validation) == ["validation: never labelled: nose, l_eye"]


def test_missing_sigmas_are_said():
    [line] = faults(people(skeleton=BODY.model_copy(update={"sigmas": ()})))
    assert line.startswith("no sigmas: OKS takes 0.07 for each joint")


def test_left_joints_without_a_right_one_are_named():
    joints = ("nose", "leftear", "rightear", "l_hip", "r_hip", "tail_left", "knee")
    skeleton = Skeleton.model_validate({"name": "dog", "joints": joints, "sigmas": [0.1] * 7})
    [line] = faults(people(skeleton=skeleton))
    assert line == "no pair of left and right, so mirrored images mislead: leftear, rightear, tail_left"


def test_people_too_small_for_the_input_are_counted():
    assert faults(people(), input_size=86) == []  # 75 px of 200 are 32.25 of 86
    [line] = faults(people(), input_size=84)
    assert line.startswith("40 of 40 people (100%) are smaller than 32 px where the whole image is 84 px")


def test_joints_outside_the_image_or_the_crop_are_counted():
    found = people()
    found.joint_NK2[:3, 0] = [-1, 50]
    found.box_N4[:3] = [-6, 8, 80, 80]
    assert faults(found) == ["3 of 40 people (8%) have joints outside the image"]
    found = people()
    found.box_N4[:3, 3] = 64  # from 10 px down, of joints to 80 px: 80 px around 42 are seen
    assert faults(found) == []
    found.box_N4[:3, 3] = 55
    [line] = faults(found)
    seen = "joints outside what is seen of them, 1.25 times their box"
    assert line.startswith(f"3 of 40 people (8%) have {seen}")


@pytest.mark.parametrize("turn", [0, 1, 2])
def test_left_and_right_joints_that_are_exchanged_are_named_however_the_people_are_turned(turn):
    wrong_K2 = FRONT_K2[[0, 1, 2, 4, 3, 5, 6]]  # the hips
    for _ in range(turn):
        wrong_K2 = wrong_K2 @ np.array([[0, 1], [-1, 0]])
    wrong_K2 = wrong_K2 - wrong_K2.min(axis=0) + 10
    [line] = faults(people(joint_K2=wrong_K2), people(joint_K2=wrong_K2 + 0.25))
    exchanged = "l_hip and r_hip lie the other way round than other pairs"
    assert line == f"{exchanged} in 40 of 40 people (100%): exchanged?"


def test_people_seen_from_behind_or_with_crossed_legs_are_not_taken_for_exchanged():
    behind_K2 = FRONT_K2[[0, 2, 1, 4, 3, 6, 5]]
    assert faults(people(), people(joint_K2=behind_K2)) == []
    found = people(40)
    found.joint_NK2[:12, 5:] = found.joint_NK2[:12, [6, 5]]
    assert faults(found) == []


def test_a_pose_that_is_in_both_splits_is_counted():
    assert faults(people(), people(4)) == ["poses that are exactly the same in train and validation: 4"]
