"""Ids of people over a film, given by true poses of drawn people."""

import numpy as np
import pytest
from helpers import COCO

from pose.data.synthetic.person import Figure
from pose.data.synthetic.scene import Placement, draw_scene
from pose.keypoints.people import People
from pose.keypoints.track import Tracker, oks

WALK = {"walk": 1.0}


def people(*joints_of: np.ndarray) -> People:
    joint_PK2 = np.reshape(joints_of, (-1, len(COCO), 2))
    score_PK = np.isfinite(joint_PK2[..., 0]).astype(float)
    return People(joint_PK2, score_PK, score_PK.mean(axis=1))


def person(x: float, seed: int = 0) -> np.ndarray:
    """Joints of somebody 100 px tall around x."""
    rng = np.random.default_rng(seed)
    return np.column_stack([x + rng.uniform(-20, 20, len(COCO)), np.linspace(0, 100, len(COCO))])


@pytest.mark.parametrize("seed", range(4))
def test_two_people_who_cross_in_a_drawn_film_keep_their_ids(seed):
    """One hides the other in the middle: joints that are not seen are not found, nor who shows few."""
    rng = np.random.default_rng(seed)
    figures, frames = [Figure(rng, WALK), Figure(rng, WALK)], 30
    tracker, id_of, unseen = Tracker(COCO), [set[int](), set[int]()], 0
    for frame in range(frames):
        x, jitter_2 = 40 + 160 * frame / (frames - 1), rng.normal(0, 1, 2)
        at = [np.array([x, 80]) + jitter_2, np.array([240 - x, 84]) - jitter_2]
        placements = [Placement(one, pelvis, 110) for one, pelvis in zip(figures, at, strict=True)]
        scene = draw_scene(np.random.default_rng(1), width=240, height=160, placements=placements)
        found = [np.where(one.coco.seen_K[:, None], one.coco.xy_K2, np.nan) for one in scene.people]
        order = [n for n in rng.permutation(2) if np.isfinite(found[n]).sum() >= 8]
        unseen += 2 - len(order)
        ids = tracker.update(people(*(found[n] + rng.normal(0, 1.5, found[n].shape) for n in order)))
        for n, number in zip(order, ids, strict=True):
            id_of[n].add(number)
    assert sorted(map(len, id_of)) == [1, 1]
    assert id_of[0] != id_of[1]


def test_a_person_who_is_unseen_for_some_frames_keeps_the_id_and_for_more_does_not():
    for gap, kept in ((3, True), (4, False)):
        tracker = Tracker(COCO, max_lost=3)
        for x in range(0, 40, 4):
            [before] = tracker.update(people(person(x)))
        for _ in range(gap):
            assert tracker.update(people()) == []
        [after] = tracker.update(people(person(40 + 4 * gap)))
        assert (after == before) == kept


def test_a_person_elsewhere_is_another_one_unless_the_threshold_is_low():
    for threshold, same in ((0.3, False), (0.0, True)):
        tracker = Tracker(COCO, threshold=threshold)
        [first] = tracker.update(people(person(0)))
        [second] = tracker.update(people(person(60)))
        assert (first == second) == same


def test_somebody_of_whom_one_joint_is_seen_keeps_the_id():
    tracker = Tracker(COCO)
    for step in range(5):
        nose = np.full((len(COCO), 2), np.nan)
        nose[0] = 2 * step, 50
        assert tracker.update(people(nose)) == [1]


def test_somebody_without_joints_has_no_id():
    nobody = np.full((len(COCO), 2), np.nan)
    tracker = Tracker(COCO)
    assert tracker.update(people(nobody, person(50))) == [0, 1]
    assert tracker.update(people(person(52), nobody)) == [1, 0]


def test_oks_is_cocos_formula_over_the_joints_that_both_have():
    one, moved = person(0), person(0) + [3, 0]
    moved[0] = np.nan
    area = 0.53 * np.ptp(np.delete(moved, 0, axis=0), axis=0).prod()
    expected = np.exp(-9 / (2 * area * (2 * COCO.oks_sigmas[1:]) ** 2)).mean()
    np.testing.assert_allclose(oks(one[None], moved[None], COCO.oks_sigmas), [[expected]])
    assert oks(one[None], np.full((1, *one.shape), np.nan), COCO.oks_sigmas).tolist() == [[0]]
