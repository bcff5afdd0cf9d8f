"""Joints, pairs and orders (MPII, LSP, COCO)."""

from __future__ import annotations

import pytest

from pose.keypoints.skeleton import COCO, LSP, LSP_TO_MPII, MPII, SCORED_JOINTS


def test_mpii_pairs_are_the_published_ones():
    assert MPII.flip_pairs == ((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13))


@pytest.mark.parametrize("skeleton", [MPII, LSP, COCO])
def test_mirroring_twice_is_no_change(skeleton):
    assert (skeleton.flip_index[skeleton.flip_index] == range(len(skeleton))).all()


@pytest.mark.parametrize("skeleton", [MPII, LSP, COCO])
def test_limbs_and_groups_name_joints_that_exist(skeleton):
    used = {joint for limb in skeleton.limbs for joint in limb} | {
        joint for group in skeleton.groups.values() for joint in group
    }
    assert used <= set(range(len(skeleton)))


def test_lsp_joints_land_on_mpii_joints_of_their_name():
    renamed = {"neck": "upper_neck"}
    assert [renamed.get(joint, joint) for joint in LSP.joints] == [MPII.joints[k] for k in LSP_TO_MPII]


def test_the_scored_joints_are_all_but_pelvis_and_thorax():
    assert {MPII.joints[k] for k in range(16) if k not in SCORED_JOINTS} == {"pelvis", "thorax"}


def test_coco_has_a_sigma_for_each_joint():
    assert len(COCO.sigmas) == len(COCO) == 17
