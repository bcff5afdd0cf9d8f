"""The built-in skeletons: facts of the published sets."""

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pose.keypoints.skeleton import Skeleton, built_in, read_skeleton, same_joints

SIZES = {
    "mpii": 16, "lsp": 14, "coco": 17, "crowdpose": 14, "aic": 14,
    "halpe26": 26, "coco_wholebody": 133, "ap10k": 17,
}  # fmt: skip
# That limbs connect: LSP's trunk has no limb; a face is outlines of jaw, brows, nose (2), eyes and lips (2).
PIECES = dict.fromkeys(SIZES, 1) | {"lsp": 2, "coco_wholebody": 1 + 9}


@pytest.fixture(params=SIZES)
def skeleton(request: pytest.FixtureRequest) -> Skeleton:
    return built_in(request.param)


def test_each_set_has_its_number_of_joints_and_a_sigma_for_each_but_lsp(skeleton):
    assert len(skeleton) == SIZES[skeleton.name]
    assert len(skeleton.sigmas) == (0 if skeleton.name == "lsp" else len(skeleton))


def test_a_skeleton_survives_the_way_to_json_and_back(skeleton):
    assert read_skeleton(skeleton.model_dump_json(), "file") == skeleton


def test_mirroring_twice_changes_nothing_and_keeps_limbs_groups_and_scored_joints(skeleton):
    flip_K = skeleton.flip_index
    assert (flip_K[flip_K] == np.arange(len(skeleton))).all()
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    assert {frozenset(flip_K[list(limb)].tolist()) for limb in skeleton.limbs} == limbs
    for joints in (*skeleton.groups.values(), skeleton.scored):
        assert set(flip_K[list(joints)].tolist()) == set(joints)


def test_joints_with_a_side_have_a_counterpart_and_others_of_a_body_have_none(skeleton):
    sided_K = [joint.startswith(("l_", "r_", "left_", "right_")) for joint in skeleton.joints]
    moved_K = skeleton.flip_index != np.arange(len(skeleton))
    is_face_K = np.array([joint.startswith("face-") for joint in skeleton.joints])
    assert (moved_K == sided_K)[~is_face_K].all()
    assert moved_K[is_face_K].sum() == (2 * 29 if is_face_K.any() else 0)


# AI Challenger and COCO-WholeBody measured left and right apart.
@pytest.mark.parametrize("name", ["mpii", "coco", "crowdpose", "halpe26", "ap10k"])
def test_left_and_right_have_the_same_sigma(name):
    skeleton = built_in(name)
    sigma_K = np.array(skeleton.sigmas)
    assert (sigma_K[skeleton.flip_index] == sigma_K).all()


def test_limbs_connect_all_joints_into_the_pieces_that_the_set_has(skeleton):
    assert len({frozenset(limb) for limb in skeleton.limbs}) == len(skeleton.limbs)
    start_L, end_L = np.array(skeleton.limbs).T
    joined_KK = coo_array((np.ones(len(start_L)), (start_L, end_L)), shape=(len(skeleton),) * 2)
    assert connected_components(joined_KK, directed=False)[0] == PIECES[skeleton.name]


def test_a_joint_is_in_one_group_at_most_and_only_joints_of_the_trunk_are_in_none(skeleton):
    grouped = sum(skeleton.groups.values(), ())
    assert len(set(grouped)) == len(grouped)
    rest = {joint for k, joint in enumerate(skeleton.joints) if k not in grouped}
    assert rest <= {"pelvis", "thorax", "upper_neck", "neck", "hip"}


def test_order_of_grouping_is_all_joints_once(skeleton):
    assert sorted(skeleton.order or range(len(skeleton))) == list(range(len(skeleton)))


@pytest.mark.parametrize("name", ["halpe26", "coco_wholebody"])
def test_sets_that_extend_coco_begin_with_its_joints_sigmas_and_groups(name):
    larger, coco = built_in(name), built_in("coco")
    assert larger.joints[:17] == coco.joints
    assert larger.sigmas[:17] == coco.sigmas
    assert all(set(joints) <= set(larger.groups[group]) for group, joints in coco.groups.items())
    assert larger.reference == coco.reference
    assert same_joints(larger, coco).tolist() == [*range(17), *[-1] * (len(larger) - 17)]


def test_a_whole_body_is_body_feet_face_left_hand_and_right_hand():
    body = built_in("coco_wholebody")
    assert body.joints[17] == "left_big_toe"
    assert body.joints[23:91] == tuple(f"face-{k}" for k in range(68))
    assert body.joints[91:112] == tuple(joint.replace("right", "left") for joint in body.joints[112:])
    assert body.sigmas[91:112] == body.sigmas[112:]
    flip_K = body.flip_index
    # A toe, ends of the jaw, the chin, outer corners of the eyes, corners of the mouth, ends of the hands.
    pairs = [(17, 20), (23, 39), (31, 31), (59, 68), (71, 77), (91, 112), (111, 132)]
    for joint, other in pairs:
        assert flip_K[[joint, other]].tolist() == [other, joint]


def test_ap10k_has_cocos_sigmas_by_the_kind_of_joint():
    animal, coco = built_in("ap10k"), built_in("coco")
    paws = {"front_paw": "wrist", "back_paw": "ankle"}
    for joint, sigma in zip(animal.joints, animal.sigmas, strict=True):
        if joint not in ("neck", "root_of_tail"):
            side, _, part = joint.partition("_")
            person = f"{side}_{paws.get(part, part)}" if part else joint
            assert sigma == coco.sigmas[coco.joints.index(person)]


def test_joints_of_one_name_are_found_in_another_sets_spelling():
    crowd, mpii = built_in("crowdpose"), built_in("mpii")
    assert same_joints(crowd, mpii).tolist() == [13, 12, 14, 11, 15, 10, 3, 2, 4, 1, 5, 0, -1, -1]
