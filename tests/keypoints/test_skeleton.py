"""Skeletons: pairs and orders (MPII, LSP, COCO), and as data from a file."""

import json

import pytest
from helpers import COCO, LSP, MPII, user_error

from pose.data.formats.lsp import LSP_TO_MPII
from pose.keypoints.skeleton import (
    Skeleton,
    built_in,
    inferred_flips,
    joint_places,
    read_skeleton,
    same_joints,
    side_and_part,
)


def test_mpii_pairs_are_the_published_ones():
    assert MPII.flip_index.tolist() == [5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10]


def test_lsp_joints_land_on_mpii_joints_of_their_name():
    assert LSP_TO_MPII.tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15, 8, 9]
    assert [MPII.joints[k] for k in LSP_TO_MPII] == [*LSP.joints]


def test_the_scored_joints_of_mpii_are_all_but_pelvis_and_thorax_and_by_default_all():
    assert {MPII.joints[k] for k in range(16) if k not in MPII.scored_joints} == {"pelvis", "thorax"}
    assert LSP.scored_joints.tolist() == list(range(14))


ONE = {"name": "x", "joints": ["a", "left_b", "right_b"]}


def test_flips_and_the_order_of_grouping_are_read_from_the_names_if_they_are_not_given():
    joints = ["tail", "paw left", "L_Ear", "Right Eye", "rightEar", "leftEye", "paw-right", "left", "nose"]
    skeleton = Skeleton.model_validate({"name": "mouse", "joints": joints})
    assert skeleton.flips == ((1, 6), (2, 4), (5, 3))
    assert [joints[k] for k in skeleton.order[:5]] == ["nose", "Right Eye", "leftEye", "L_Ear", "rightEar"]
    assert skeleton.oks_sigmas.tolist() == [0.07] * 9
    assert Skeleton.model_validate({"name": "mouse", "joints": joints, "flips": []}).flips == ()


def test_a_side_between_other_words_counts_if_it_is_the_only_one():
    joints = ["front_left_paw", "front_right_paw", "kp_left_1", "kp_right_1", "a_l_b", "a_r_b", "right_left"]
    assert inferred_flips(joints) == [(0, 1), (2, 3)]
    assert side_and_part("right_left") == ("right", "left")


def test_joints_may_be_named_where_they_could_be_counted():
    named = {"limbs": [["a", "left_b"]], "groups": {"B": ["left_b", "right_b"]}, "reference": ["a", "left_b"]}
    counted = {"limbs": [[0, 1]], "groups": {"B": [1, 2]}, "reference": [0, 1]}
    assert Skeleton.model_validate(ONE | named) == Skeleton.model_validate(ONE | counted)


def test_joints_of_two_skeletons_are_paired_by_name_in_any_spelling():
    place = same_joints(COCO, MPII)
    paired = {joint: MPII.joints[k] for joint, k in zip(COCO.joints, place, strict=True) if k >= 0}
    assert len(paired) == 12
    assert (paired["left_ankle"], paired["right_shoulder"]) == ("l_ankle", "r_shoulder")
    assert same_joints(COCO, COCO).tolist() == list(range(17))


def test_joints_whose_names_differ_in_a_sign_or_are_of_other_letters_are_not_the_same():
    assert joint_places(["A", "A'", "B"], ["B", "A'", "A"]) == [2, 1, 0]
    assert joint_places(["鼻子", "左眼", "右眼"], ["右眼", "鼻子"]) == [1, -1, 0]
    assert joint_places(["a", "left ear"], ["A", "A'", "LEar"]) == [-1, 2], "which of two, nobody can say"


def test_a_built_in_skeleton_of_another_name_is_refused_with_those_that_exist():
    with user_error(r"found 'dog', expected one of .*coco.*mpii.*, or a YAML file"):
        built_in("dog")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "found"),
        ({"joints": ["a"]}, "missing key name"),
        (ONE | {"color": 1}, "unknown key color"),
        (ONE | {"joints": []}, r"found joints \(\)"),
        (ONE | {"joints": ["a", "a"]}, r"found joints \('a', 'a'\), expected a name of its own for each"),
        (ONE | {"joints": [["a"]]}, "joints.0: found"),
        (ONE | {"limbs": [[0, 3]]}, "found joint 3, expected 0 to 2"),
        (ONE | {"limbs": [[0, 0]]}, "found 'a' twice in a pair, expected two joints"),
        (ONE | {"groups": {"A": [-1]}}, "found joint -1, expected 0 to 2"),
        (ONE | {"flips": [["a", "tail"]]}, "flips: found joint 'tail', expected one of the 3 in joints"),
        (ONE | {"flips": [[0, 1], [1, 2]]}, "flips: found 'left_b' in two pairs, expected one at most"),
        (ONE | {"order": [0, 1]}, "order: found 2 joints, expected each of the 3 once"),
        (ONE | {"sigmas": [1, 2]}, "found 2 sigmas, expected 3 numbers above 0"),
        (ONE | {"sigmas": [0, 1, 1]}, "found 3 sigmas, expected 3 numbers above 0"),
    ],
)
def test_a_skeleton_that_cannot_be_used_is_one_line_that_names_the_file(values, message):
    with user_error(f"^file: .*{message}"):
        read_skeleton(json.dumps(values), "file")


@pytest.mark.parametrize("text", ["no json", "[" * 100_000])
def test_a_skeleton_that_is_no_json_is_one_line_too(text):
    with user_error(r"^file: cannot be read as JSON"):
        read_skeleton(text, "file")
