"""Tags to people: known answers, and the same people as a plain, slow reading of the definition finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from pose.keypoints.grouping import TIE, GroupingParams, group, joint_order
from pose.keypoints.heatmap import encode_people
from pose.keypoints.people import People
from pose.keypoints.skeleton import COCO, MPII, Skeleton

FOUR = Skeleton(name="four", joints=("left_knee", "nose", "left_hip", "left_eye"), limbs=(), groups={})
BARE = GroupingParams(refine=False)


def maps(
    joint_PK2: np.ndarray, tag_P: np.ndarray, *, size: int, sigma: float = 1.0, dims: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps (the largest of all people's) and tags (that of the person whose joint is nearest) of joints in cells, NaN: not there."""
    labelled_PK = np.isfinite(joint_PK2).all(axis=2)
    heatmap, _ = encode_people(joint_PK2, labelled_PK, size=size, sigma=sigma)
    square_PK2c = np.square(np.arange(size) - np.nan_to_num(joint_PK2, nan=1e4)[..., None])
    away_PKhw = square_PK2c[:, :, 1, :, None] + square_PK2c[:, :, 0, None]
    tag_Khw = np.asarray(tag_P, dtype=np.float32)[away_PKhw.argmin(axis=0)]
    return heatmap, np.repeat(tag_Khw[..., None], dims, axis=3)


def dots(
    shape: tuple[int, int, int], dot: dict[tuple[int, int, int], tuple[float, float]]
) -> tuple[np.ndarray, np.ndarray]:
    """Empty maps but for single cells: {(joint, y, x): (heatmap, tag)}; the tag is 100 elsewhere."""
    heatmap, tag = np.zeros(shape, dtype=np.float32), np.full((*shape, 1), 100, dtype=np.float32)
    for at, (value, cell_tag) in dot.items():
        heatmap[at], tag[at] = value, cell_tag
    return heatmap, tag


def scattered(rng: np.random.Generator, people: int, *, joints: int, size: int, apart: float) -> np.ndarray:
    """Random joints (P, K, 2) in cells, those of one kind at least `apart` from each other."""
    joint_PK2 = np.empty((people, joints, 2))
    for k in range(joints):
        placed: list[np.ndarray] = []
        while len(placed) < people:
            xy = rng.uniform(1, size - 2, 2)
            if all(np.linalg.norm(xy - other) >= apart for other in placed):
                placed.append(xy)
        joint_PK2[:, k] = placed
    return joint_PK2


def paired(found: People, true_PK2: np.ndarray) -> np.ndarray:
    """The found people in the order of the true ones that they lie nearest to."""
    assert len(found) == len(true_PK2)
    distance = np.nanmean(np.linalg.norm(found.joint_PK2[None] - true_PK2[:, None], axis=3), axis=2)
    return found.joint_PK2[linear_sum_assignment(distance)[1]]


def plainly(heatmap: np.ndarray, tag: np.ndarray, params: GroupingParams, skeleton: Skeleton) -> People:
    """The definition, cell by cell; peaks move by a quarter cell, for better ways see test_heatmap.py."""
    joints, h, w = heatmap.shape
    people: list[dict[int, tuple[int, int]]] = []
    for k in sorted(
        range(joints),
        key=lambda joint: ("nose", "eye", "hip", "knee").index(skeleton.joints[joint].split("_")[-1]),
    ):
        peaks = []
        for y, x in np.ndindex(h, w):
            around = [
                (y + dy, x + dx)
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
                if 0 <= y + dy < h and 0 <= x + dx < w
            ]
            if heatmap[k, y, x] > params.detection_threshold and heatmap[k, y, x] == max(
                heatmap[k][cell] for cell in around
            ):
                peaks.append((y, x))
        single = []
        for i, (y, x) in enumerate(peaks):
            touching = [(v, u) for v, u in peaks[:i] if abs(v - y) <= 1 and abs(u - x) <= 1]
            if all(rms(tag[k, y, x], tag[k][cell]) >= params.tag_threshold for cell in touching):
                single.append((y, x))
        peaks = sorted(sorted(single, key=lambda cell: -heatmap[k][cell])[: params.top])
        means = [mean_tag(tag, person) for person in people]
        matched = set()
        if peaks and people:
            distance = np.array([[rms(tag[k][cell], mean) for mean in means] for cell in peaks])
            score = [[min(float(heatmap[k][cell]), 1)] for cell in peaks]
            # Operations in the order of the code's own: in one dimension assignments of equal cost are
            # common.
            apart = np.minimum(distance, params.tag_threshold) if params.capped else distance
            cost = 100 * params.rounding * np.round(apart / params.rounding) - score + TIE * apart
            for n, p in zip(*linear_sum_assignment(cost), strict=True):
                if distance[n, p] < params.tag_threshold:
                    people[p][k] = peaks[n]
                    matched.add(n)
        people += [{k: cell} for n, cell in enumerate(peaks) if n not in matched]
    score_P = np.array(
        [sum(min(float(heatmap[k][cell]), 1) for k, cell in person.items()) / joints for person in people]
    )
    order = [p for p in np.argsort(-score_P, kind="stable") if score_P[p] >= params.min_score]
    joint_PK2, score_PK = np.full((len(order), joints, 2), np.nan), np.zeros((len(order), joints))
    for row, p in enumerate(order):
        mean = mean_tag(tag, people[p]).astype(np.float32)
        for k in range(joints):
            cell = people[p].get(k)
            if cell is None and params.refine:
                value = np.minimum(heatmap[k], 1) - np.round(np.sqrt(((tag[k] - mean) ** 2).sum(axis=2)))
                best = divmod(int(value.argmax()), w)
                cell = best if heatmap[k][best] > 0 else None
            if cell is not None:
                y, x = cell
                dx = np.sign(heatmap[k, y, x + 1] - heatmap[k, y, x - 1]) if 0 < x < w - 1 else 0
                dy = np.sign(heatmap[k, y + 1, x] - heatmap[k, y - 1, x]) if 0 < y < h - 1 else 0
                joint_PK2[row, k] = x + dx / 4, y + dy / 4
                score_PK[row, k] = min(heatmap[k, y, x], 1)
    return People(joint_PK2, score_PK, score_P[order])


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))


def mean_tag(tag: np.ndarray, person: dict[int, tuple[int, int]]) -> np.ndarray:
    return np.mean([tag[k][cell].astype(np.float64) for k, cell in person.items()], axis=0)


def assert_same(found: People, expected: People) -> None:
    np.testing.assert_array_equal(found.joint_PK2, expected.joint_PK2)
    np.testing.assert_allclose(found.score_PK, expected.score_PK)
    np.testing.assert_allclose(found.score_P, expected.score_P)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("levels", [None, 8], ids=["any values", "many equal values"])
@pytest.mark.parametrize("shape", [(9, 14), (24, 16), (1, 1), (2, 19)])
def test_people_are_those_of_the_definition_taken_literally(
    shape: tuple[int, int], levels: int | None, dims: int
):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        heatmap = rng.uniform(-0.3, 1.2, (4, *shape)).astype(np.float32)
        tag = rng.normal(0, rng.choice([0.3, 1, 4]), (4, *shape, dims)).astype(np.float32)
        if levels:
            heatmap, tag = np.round(heatmap * levels) / levels, np.round(tag * 2 * levels) / (2 * levels)
        if seed % 2:
            heatmap *= (
                rng.random((4, *shape), dtype=np.float32) < 0.1
            )  # mostly empty maps: much is equal, much is missing
        params = GroupingParams(
            detection_threshold=0.4,
            tag_threshold=rng.choice([0.5, 1.0, 2.0]),
            rounding=(1.0, 0.01)[seed // 2],
            capped=seed != 2,
            top=(100, 3)[seed % 2],
            min_score=0.1,
            target="floor",
        )
        assert_same(group(heatmap, tag, params, skeleton=FOUR), plainly(heatmap, tag, params, FOUR))


@pytest.mark.parametrize("people", [1, 3, 8])
def test_refinement_of_large_maps_is_that_of_the_definition(people: int):
    rng = np.random.default_rng(people)
    joint_PK2 = scattered(rng, people, joints=4, size=48, apart=4)
    joint_PK2[rng.random((people, 4)) < 0.4] = np.nan
    heatmap, tag = maps(joint_PK2, np.arange(people) * 1.5, size=48, dims=2)
    heatmap += rng.normal(0, 0.02, heatmap.shape).astype(np.float32)
    tag += rng.normal(0, 0.3, tag.shape).astype(np.float32)
    params = GroupingParams(target="floor")
    assert_same(group(heatmap, tag, params, skeleton=FOUR), plainly(heatmap, tag, params, FOUR))


@pytest.mark.parametrize(("target", "error"), [("subcell", 1e-4), ("floor", 0.25 + 1e-6)])
def test_encoded_people_come_back(target: str, error: float):
    for seed in range(3):
        joint_PK2 = scattered(np.random.default_rng(seed), 4, joints=17, size=64, apart=8)
        found = group(*maps(joint_PK2, np.arange(4) * 3, size=64, dims=2), GroupingParams(target=target))
        assert np.abs(paired(found, joint_PK2) - joint_PK2).max() <= error
        assert found.score_P.min() > 0.8


def test_joints_halfway_between_cells_belong_to_one_person_each():
    joint_PK2 = np.floor(scattered(np.random.default_rng(0), 3, joints=17, size=64, apart=8)) + 0.5
    found = group(*maps(joint_PK2, np.arange(3) * 3, size=64))
    np.testing.assert_allclose(paired(found, joint_PK2), joint_PK2, atol=1e-4)


def test_one_person_is_found_with_every_joint_and_its_score():
    joint_PK2 = np.random.default_rng(0).integers(2, 30, (1, 17, 2)).astype(float)
    found = group(*maps(joint_PK2, np.zeros(1), size=32))
    np.testing.assert_array_equal(found.joint_PK2, joint_PK2)
    np.testing.assert_array_equal(found.score_PK, np.ones((1, 17)))
    assert found.score_P.tolist() == [1]


def test_an_empty_image_has_no_people():
    found = group(np.zeros((17, 16, 16), dtype=np.float32), np.zeros((17, 16, 16, 2), dtype=np.float32))
    assert (len(found), found.joint_PK2.shape, found.score_PK.shape, found.score_P.shape) == (
        0,
        (0, 17, 2),
        (0, 17),
        (0,),
    )


def test_thirty_people_come_out_whole_beside_stronger_false_peaks():
    joint_PK2 = scattered(np.random.default_rng(0), 30, joints=17, size=128, apart=6)
    heatmap, tag = maps(joint_PK2, np.arange(30) * 2, size=128, dims=2)
    heatmap[:, 0, ::127], tag[:, 0, ::127] = 1.0, 1000.0
    found = group(heatmap, tag, BARE)
    assert len(found) == 32
    true = np.flatnonzero(found.joint_PK2[:, 0, 1] > 0)
    found = People(found.joint_PK2[true], found.score_PK[true], found.score_P[true])
    np.testing.assert_allclose(paired(found, joint_PK2), joint_PK2, atol=1e-4)


def test_every_peak_of_a_crowd_belongs_to_someone():
    rng = np.random.default_rng(0)
    heatmap, tag = maps(scattered(rng, 40, joints=4, size=96, apart=5), np.zeros(40), size=96)
    tag = rng.normal(0, 5, tag.shape).astype(np.float32)  # tags that agree with nobody's
    found = group(heatmap, tag, BARE, skeleton=FOUR)
    assert (found.score_PK > 0).sum() == 160
    assert len(found) > 40


def test_a_joint_belongs_to_the_person_of_its_tag_wherever_it_is():
    heatmap, tag = dots(
        (4, 9, 9), {(1, 1, 1): (0.9, 0), (1, 7, 7): (0.8, 5), (2, 2, 1): (0.7, 4.8), (2, 6, 7): (0.6, 0.3)}
    )
    found = group(heatmap, tag, BARE, skeleton=FOUR)
    assert found.joint_PK2[:, [1, 2]].tolist() == [[[1, 1], [7, 6]], [[7, 7], [1, 2]]]
    assert np.isnan(found.joint_PK2[:, [0, 3]]).all()
    np.testing.assert_allclose(found.score_PK, [[0, 0.9, 0.6, 0], [0, 0.8, 0.7, 0]], rtol=1e-6)
    np.testing.assert_allclose(found.score_P, [1.5 / 4, 1.5 / 4], rtol=1e-6)


@pytest.mark.parametrize(("distance", "people"), [(0.9, 1), (1.1, 2)])
def test_tags_further_apart_than_the_threshold_are_two_people(distance: float, people: int):
    heatmap, tag = dots((4, 9, 9), {(1, 1, 1): (0.9, 0), (2, 7, 7): (0.9, distance)})
    assert len(group(heatmap, tag, BARE, skeleton=FOUR)) == people


def test_tags_are_compared_by_their_root_mean_square():
    heatmap, tag = dots((4, 9, 9), {(1, 1, 1): (0.9, 0), (2, 7, 7): (0.9, 0)})
    two = np.concatenate([tag, tag], axis=3)
    two[2, 7, 7] = 1.3, 0  # a length of 1.3, a root mean square of 0.92
    assert len(group(heatmap, two, BARE, skeleton=FOUR)) == 1


def test_a_person_has_the_mean_tag_of_their_joints():
    heatmap, tag = dots(
        (4, 9, 9), {(1, 1, 1): (0.9, 0), (3, 7, 7): (0.9, 0.8), (2, 4, 4): (0.9, 1.3)}
    )  # nose, eye, hip
    assert len(group(heatmap, tag, BARE, skeleton=FOUR)) == 1  # 1.3 is within 1 of 0.4, not of 0


def test_all_matches_together_cost_the_least():
    # The nearest pair first (1 and 1.2) would leave the peak at 2.6 with the person at 0.
    heatmap, tag = dots(
        (4, 9, 9), {(1, 1, 1): (0.9, 0), (1, 1, 5): (0.9, 1.2), (2, 5, 1): (0.9, 1), (2, 5, 5): (0.9, 2.6)}
    )
    found = group(heatmap, tag, replace(BARE, tag_threshold=3), skeleton=FOUR)
    assert found.joint_PK2[:, [1, 2]].tolist() == [[[1, 1], [1, 5]], [[5, 1], [5, 5]]]


def test_a_person_who_is_not_there_yet_pushes_nobody_from_their_own_joints():
    # People at 0, 3 and 6 have noses, one at -3 has not: the four hips would each move on to the next nose
    # for the same total.
    noses, hips = (
        {(1, 1, 2 * n + 1): (0.9, 3 * n) for n in range(3)},
        {(2, 5, 2 * n + 1): (0.9, 3 * n - 3) for n in range(3)},
    )
    heatmap, tag = dots((4, 9, 9), noses | hips)
    assert len(group(heatmap, tag, BARE, skeleton=FOUR)) == 4
    crowd, tags = scattered(np.random.default_rng(0), 20, joints=17, size=96, apart=6), np.arange(20) * 3
    crowd[np.random.default_rng(1).random((20, 17)) < 0.3] = np.nan
    found = group(*maps(crowd, tags, size=96), BARE)
    assert len(found) == 20
    assert (found.score_PK > 0).sum() == np.isfinite(crowd[:, :, 0]).sum()
    assert len(group(*maps(crowd, tags, size=96), replace(BARE, capped=False))) > 20  # as published


def test_of_two_peaks_about_as_near_the_higher_one_is_taken_and_the_other_starts_a_person():
    heatmap, tag = dots((4, 9, 9), {(1, 1, 1): (0.9, 0), (2, 5, 1): (0.5, 0.1), (2, 5, 5): (0.8, 0.4)})
    found = group(heatmap, tag, BARE, skeleton=FOUR)
    assert found.joint_PK2[:, 2].tolist() == [[5, 5], [1, 5]]
    found = group(heatmap, tag, replace(BARE, rounding=0.01), skeleton=FOUR)
    assert found.joint_PK2[np.isfinite(found.joint_PK2[:, 1, 0]), 2].tolist() == [[1, 5]]


def test_of_people_about_as_near_the_nearest_is_taken():
    heatmap, tag = dots(
        (4, 9, 9), {(1, 1, 1): (0.9, 0), (1, 1, 5): (0.8, 0.4), (2, 5, 1): (0.9, 0.4), (2, 5, 5): (0.8, 0)}
    )
    found = group(heatmap, tag, BARE, skeleton=FOUR)
    assert found.joint_PK2[:, [1, 2]].tolist() == [[[1, 1], [5, 5]], [[5, 1], [1, 5]]]


def test_two_people_who_share_a_cell_stay_two():
    joint_PK2 = np.array(
        [[[4, 4], [8, 8], [4, 12], [12, 4]], [[20, 20], [8, 8], [20, 12], [12, 20]]], dtype=float
    )
    found = group(*maps(joint_PK2, np.array([0, 5]), size=24), BARE, skeleton=FOUR)
    shared = np.isnan(found.joint_PK2[:, 1, 0])
    assert shared.tolist() == [False, True]  # the cell has one tag
    np.testing.assert_array_equal(np.delete(found.joint_PK2, 1, axis=1), np.delete(joint_PK2, 1, axis=1))


def test_refinement_takes_the_weak_response_of_the_persons_own_tag():
    dot = {(1, 1, 1): (0.9, 0), (1, 1, 6): (0.8, 5), (2, 5, 1): (0.05, 0.4), (2, 5, 6): (0.95, 5)}
    heatmap, tag = dots((4, 9, 9), dot)
    bare, found = group(heatmap, tag, BARE, skeleton=FOUR), group(heatmap, tag, skeleton=FOUR)
    assert found.joint_PK2[:, 2].tolist() == [[6, 5], [1, 5]]
    assert found.score_PK[:, 2].tolist() == pytest.approx([0.95, 0.05])
    np.testing.assert_array_equal(found.score_P, bare.score_P)  # as it was before
    assert np.isnan(bare.joint_PK2[1, 2]).all()


def test_refined_joints_are_moved_within_their_cells_like_all_others():
    heatmap, tag = dots((4, 9, 9), {(1, 1, 1): (0.9, 0), (2, 5, 3): (0.05, 0), (2, 5, 4): (0.05, 0)})
    assert group(heatmap, tag, skeleton=FOUR).joint_PK2[0, 2].tolist() == [3.5, 5]
    assert group(heatmap, tag, GroupingParams(target="floor"), skeleton=FOUR).joint_PK2[0, 2].tolist() == [
        3.25,
        5,
    ]


def test_a_joint_stays_missing_where_the_heatmap_is_not_positive():
    heatmap, tag = dots((4, 9, 9), {(1, 1, 1): (0.9, 0)})
    heatmap[2] = -0.01
    found = group(heatmap, tag, skeleton=FOUR)
    assert np.isnan(found.joint_PK2[0]).any(axis=1).tolist() == [True, False, True, True]
    assert found.score_PK[0, 2] == 0


def test_more_than_one_counts_as_one_and_makes_no_plateau():
    heatmap, tag = maps(np.full((1, 4, 2), 8.0), np.zeros(1), size=16)
    found = group(3 * heatmap, tag, BARE, skeleton=FOUR)
    assert found.joint_PK2.tolist() == [[[8, 8]] * 4]
    assert found.score_P.tolist() == [1]


def test_a_plateau_is_one_joint_unless_tags_say_that_it_is_two():
    heatmap, tag = dots(
        (4, 9, 9), {(1, 4, x): (0.9, 0) for x in (3, 4, 5)} | {(1, 5, 4): (0.9, 0.5), (1, 5, 5): (0.9, 0.5)}
    )
    assert group(heatmap, tag, BARE, skeleton=FOUR).joint_PK2[:, 1].tolist() == [[3.5, 4]]
    tag[1, 4, 5] = tag[1, 5, 5] = 7
    assert len(group(heatmap, tag, BARE, skeleton=FOUR)) == 2


def test_peaks_at_opposite_edges_do_not_touch():
    heatmap, tag = dots(
        (4, 9, 9), {(1, 3, 8): (0.9, 0), (1, 4, 0): (0.9, 0), (1, 8, 8): (0.9, 0), (2, 0, 0): (0.9, 0)}
    )
    assert (group(heatmap, tag, BARE, skeleton=FOUR).score_PK > 0).sum() == 4


def test_a_map_of_nothing_but_peaks_is_one_joint():
    found = group(
        np.full((17, 128, 128), 0.5, dtype=np.float32), np.zeros((17, 128, 128, 1), dtype=np.float32)
    )
    assert found.joint_PK2.tolist() == [[[0, 0]] * 17]


def test_the_highest_peaks_are_kept_where_there_are_too_many():
    heatmap, tag = dots(
        (4, 9, 9), {(1, 1, 1): (0.3, 0), (1, 1, 5): (0.9, 0), (1, 5, 1): (0.5, 0), (2, 5, 5): (0.2, 0)}
    )
    found = group(heatmap, tag, replace(BARE, top=2), skeleton=FOUR)
    assert sorted(found.score_PK[found.score_PK > 0].round(3)) == [0.2, 0.5, 0.9]


def test_people_come_in_the_order_of_their_scores_and_unsure_ones_can_be_left_out():
    heatmap, tag = dots((4, 9, 9), {(1, 1, 1): (0.2, 0), (1, 5, 5): (0.9, 5), (1, 5, 1): (0.6, 9)})
    assert group(heatmap, tag, skeleton=FOUR).score_P.tolist() == pytest.approx([0.225, 0.15, 0.05])
    assert len(group(heatmap, tag, GroupingParams(min_score=0.1), skeleton=FOUR)) == 2


def test_by_distance_alone_people_who_stand_apart_are_found_and_those_who_reach_over_are_not():
    apart = np.array(
        [[[6, 20], [8, 4], [8, 12], [8, 6]], [[50, 20], [52, 4], [52, 12], [52, 6]]], dtype=float
    )
    without = replace(BARE, tags=False)
    heatmap, tag = maps(apart, np.array([0, 5]), size=64)
    np.testing.assert_array_equal(paired(group(heatmap, None, without, skeleton=FOUR), apart), apart)
    crossed = apart.copy()
    crossed[:, 0] = apart[::-1, 0]  # each knee beside the other person
    heatmap, tag = maps(crossed, np.array([0, 5]), size=64)
    np.testing.assert_array_equal(paired(group(heatmap, tag, BARE, skeleton=FOUR), crossed), crossed)
    np.testing.assert_array_equal(paired(group(heatmap, tag, without, skeleton=FOUR), apart), apart)


def test_by_distance_alone_a_joint_out_of_reach_starts_a_person():
    heatmap, _ = dots((4, 40, 40), {(1, 5, 5): (0.9, 0), (2, 5, 14): (0.9, 0)})
    assert len(group(heatmap, None, GroupingParams(tags=False, reach=0.25, refine=False), skeleton=FOUR)) == 1
    assert len(group(heatmap, None, GroupingParams(tags=False, reach=0.2, refine=False), skeleton=FOUR)) == 2


def test_what_is_given_stays_as_it_is_and_may_lie_in_memory_either_way():
    rng = np.random.default_rng(0)
    heatmap, tag = (
        rng.uniform(0, 1.5, (4, 24, 24)).astype(np.float32),
        rng.normal(0, 3, (4, 24, 24, 2)).astype(np.float32),
    )
    copies = heatmap.copy(), tag.copy()
    found = group(heatmap, tag, skeleton=FOUR)
    np.testing.assert_array_equal(heatmap, copies[0])
    np.testing.assert_array_equal(tag, copies[1])
    tags_first = np.moveaxis(np.ascontiguousarray(np.moveaxis(tag, 3, 0)), 0, 3)
    assert_same(group(heatmap, tags_first, skeleton=FOUR), found)


def test_joints_are_visited_from_the_head_down():
    assert [COCO.joints[joint].split("_")[-1] for joint in joint_order(COCO.joints)][::2] == (
        ["nose", "eye", "ear", "shoulder", "hip", "elbow", "wrist", "knee", "ankle"]
    )
    assert sorted(joint_order(MPII.joints)) == list(range(16))


def test_wrong_shapes_and_tags_without_a_value_are_said():
    heatmap, tag = dots((4, 9, 9), {(1, 1, 1): (0.9, 0)})
    with pytest.raises(ValueError, match=r"heatmaps: found shape \(4, 9, 9\), expected \(17, h, w\)"):
        group(heatmap, tag)
    with pytest.raises(ValueError, match=r"tags: found \(4, 9, 8, 1\), expected shape \(4, 9, 9\)"):
        group(heatmap, tag[:, :, :8], skeleton=FOUR)
    with pytest.raises(ValueError, match="tags: found None"):
        group(heatmap, None, skeleton=FOUR)
    with pytest.raises(ValueError, match="NaN or infinity at a peak"):
        group(heatmap, np.full_like(tag, np.nan), skeleton=FOUR)
