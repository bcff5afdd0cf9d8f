"""Skeletons: pairs and orders (MPII, LSP, COCO), and as data from a file."""

from __future__ import annotations

import json

import pytest

from pose.io.errors import UserError
from pose.keypoints.skeleton import COCO, LSP, LSP_TO_MPII, MPII, Skeleton, read_skeleton


def test_mpii_pairs_are_the_published_ones():
    assert MPII.flip_index.tolist() == [5, 4, 3, 2, 1, 0, 6, 7, 8, 9, 15, 14, 13, 12, 11, 10]


@pytest.mark.parametrize("skeleton", [MPII, LSP, COCO], ids=lambda skeleton: skeleton.name)
def test_mirroring_twice_is_no_change_and_a_skeleton_survives_the_way_to_json_and_back(skeleton: Skeleton):
    assert (skeleton.flip_index[skeleton.flip_index] == range(len(skeleton))).all()
    assert read_skeleton(skeleton.model_dump_json(), "file") == skeleton


def test_lsp_joints_land_on_mpii_joints_of_their_name():
    renamed = {"neck": "upper_neck"}
    assert [renamed.get(joint, joint) for joint in LSP.joints] == [MPII.joints[k] for k in LSP_TO_MPII]


def test_the_scored_joints_of_mpii_are_all_but_pelvis_and_thorax_and_by_default_all():
    assert {MPII.joints[k] for k in range(16) if k not in MPII.scored_joints} == {"pelvis", "thorax"}
    assert LSP.scored_joints.tolist() == list(range(14))


def test_coco_has_a_sigma_for_each_joint():
    assert len(COCO.sigmas) == len(COCO) == 17


ONE = {"name": "x", "joints": ["a"], "limbs": [], "groups": {}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "found"),
        ({"joints": ["a"]}, "missing key name; missing key limbs; missing key groups"),
        (ONE | {"color": 1}, "unknown key color"),
        (ONE | {"joints": []}, r"found joints \(\)"),
        (ONE | {"joints": ["a", "a"]}, r"found joints \('a', 'a'\), expected a name of its own for each"),
        (ONE | {"limbs": [[0, 1]]}, "found joint 1, expected 0 to 0"),
        (ONE | {"groups": {"A": [-1]}}, "found joint -1, expected 0 to 0"),
        (ONE | {"sigmas": [1, 2]}, "found 2 sigmas, expected 1 numbers above 0"),
        (ONE | {"sigmas": [0]}, "found 1 sigmas, expected 1 numbers above 0"),
    ],
)
def test_a_skeleton_that_cannot_be_used_is_one_line_that_names_the_file(values: object, message: str):
    with pytest.raises(UserError, match=f"^file: .*{message}") as error:
        read_skeleton(json.dumps(values), "file")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["no json", "[" * 100_000])
def test_a_skeleton_that_is_no_json_is_one_line_too(text: str):
    with pytest.raises(UserError, match=r"^file: cannot be read as JSON"):
        read_skeleton(text, "file")
