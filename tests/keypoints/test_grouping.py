"""Grouping: known answers, and agreement with a plain, slow reading of the definition."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import COCO, MPII
from scipy.optimize import linear_sum_assignment

from pose.keypoints import grouping
from pose.keypoints.grouping import TAG_ROUNDING, TIE_BREAK, GroupingParams, group
from pose.keypoints.heatmap import encode_people
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton

FOUR = Skeleton(name="four", joints=("left_knee", "nose", "left_hip", "left_eye"), limbs=(), groups={})
BARE = GroupingParams(refine=False)


def maps(
    joint_PK2: np.ndarray, tag_P: np.ndarray, *, size: int, dims: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps and tags of joints in cells (NaN: absent); cells have the tag of the nearest person."""
    heatmap, _ = encode_people(joint_PK2, np.isfinite(joint_PK2).all(axis=2), size=size, sigma=1.0)
    square_PK2c = np.square(np.arange(size) - np.nan_to_num(joint_PK2, nan=1e4)[..., None])
    away_PKhw = square_PK2c[:, :, 1, :, None] + square_PK2c[:, :, 0, None]
    tag_Khw = np.asarray(tag_P, dtype=np.float32)[away_PKhw.argmin(axis=0)]
    return heatmap, np.repeat(tag_Khw[..., None], dims, axis=3)


def dots(
    dot: dict[tuple[int, int, int], tuple[float, float]], size: int = 9
) -> tuple[np.ndarray, np.ndarray]:
    """Empty maps of FOUR with single cells: {(joint, y, x): (heatmap, tag)}; the tag is 100 elsewhere."""
    heatmap = np.zeros((4, size, size), dtype=np.float32)
    tag = np.full((4, size, size, 1), 100, dtype=np.float32)
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


def paired(found_PK2: np.ndarray, true_PK2: np.ndarray) -> np.ndarray:
    """The found people in the order of the true ones nearest to them."""
    assert len(found_PK2) == len(true_PK2)
    distance = np.nanmean(np.linalg.norm(found_PK2[None] - true_PK2[:, None], axis=3), axis=2)
    return found_PK2[linear_sum_assignment(distance)[1]]


# The definition, cell by cell, with `target="floor"`; for positions within a cell see test_heatmap.py.


def by_definition(heatmap: np.ndarray, tag: np.ndarray, params: GroupingParams) -> People:
    _, h, w = heatmap.shape
    people: list[dict[int, tuple[int, int]]] = []
    for k in (1, 3, 2, 0):  # FOUR from the head down
        peaks = defined_peaks(heatmap[k], tag[k], params)
        means = [mean_tag(tag, person) for person in people]
        matched = set()
        if peaks and people:
            distance = np.array([[rms(tag[k][cell], mean) for mean in means] for cell in peaks])
            score = [[min(float(heatmap[k][cell]), 1)] for cell in peaks]
            # In the code's own order of operations, since assignments of equal cost are common.
            capped = np.minimum(distance, params.tag_threshold)
            cost = 100 * TAG_ROUNDING * np.round(capped / TAG_ROUNDING) - score + TIE_BREAK * capped
            for n, p in zip(*linear_sum_assignment(cost), strict=True):
                if distance[n, p] < params.tag_threshold:
                    people[p][k] = peaks[n]
                    matched.add(n)
        people += [{k: cell} for n, cell in enumerate(peaks) if n not in matched]
    scores = [[min(float(heatmap[k][cell]), 1) for k, cell in person.items()] for person in people]
    score_P = np.array([sum(some) / 4 for some in scores])
    order = np.argsort(-score_P, kind="stable")
    joint_PK2, score_PK = np.full((len(order), 4, 2), np.nan), np.zeros((len(order), 4))
    for row, p in enumerate(order):
        mean = mean_tag(tag, people[p]).astype(np.float32)
        for k in range(4):
            cell = people[p].get(k)
            if cell is None:
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


def defined_peaks(
    heatmap_hw: np.ndarray, tag_hwT: np.ndarray, params: GroupingParams
) -> list[tuple[int, int]]:
    def is_peak(y: int, x: int) -> bool:
        around = heatmap_hw[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        return bool(heatmap_hw[y, x] > params.detection_threshold and heatmap_hw[y, x] == around.max())

    peaks = [(y, x) for y, x in np.ndindex(heatmap_hw.shape) if is_peak(y, x)]
    single = []
    for i, (y, x) in enumerate(peaks):
        touching = [(v, u) for v, u in peaks[:i] if abs(v - y) <= 1 and abs(u - x) <= 1]
        if all(rms(tag_hwT[y, x], tag_hwT[cell]) >= params.tag_threshold for cell in touching):
            single.append((y, x))
    return sorted(sorted(single, key=lambda cell: -heatmap_hw[cell])[: grouping.MAX_PEAKS])


def rms(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)))


def mean_tag(tag: np.ndarray, person: dict[int, tuple[int, int]]) -> np.ndarray:
    return np.mean([tag[k][cell].astype(np.float64) for k, cell in person.items()], axis=0)


def assert_same(found: People, expected: People) -> None:
    np.testing.assert_array_equal(found.joint_PK2, expected.joint_PK2)
    np.testing.assert_allclose(found.score_PK, expected.score_PK)
    np.testing.assert_allclose(found.score_P, expected.score_P)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("levels", [None, 8], ids=["any values", "many equal values"])
@pytest.mark.parametrize("shape", [(9, 14), (24, 16), (1, 1), (2, 19)])
def test_people_are_those_of_the_definition(shape, levels, dims, monkeypatch):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        heatmap = rng.uniform(-0.3, 1.2, (4, *shape)).astype(np.float32)
        tag = rng.normal(0, rng.choice([0.3, 1, 4]), (4, *shape, dims)).astype(np.float32)
        if levels:
            heatmap, tag = np.round(heatmap * levels) / levels, np.round(tag * 2 * levels) / (2 * levels)
        if seed % 2:  # mostly empty maps: much is equal, much is missing
            heatmap *= rng.random((4, *shape), dtype=np.float32) < 0.1
        monkeypatch.setattr(grouping, "MAX_PEAKS", (100, 3)[seed % 2])
        threshold = rng.choice([0.5, 1.0, 2.0])
        params = GroupingParams(detection_threshold=0.4, tag_threshold=threshold, target="floor")
        assert_same(group(heatmap, tag, params, skeleton=FOUR), by_definition(heatmap, tag, params))


@pytest.mark.parametrize("people", [1, 3, 8])
def test_refinement_of_large_maps_is_that_of_the_definition(people):
    rng = np.random.default_rng(people)
    joint_PK2 = scattered(rng, people, joints=4, size=48, apart=4)
    joint_PK2[rng.random((people, 4)) < 0.4] = np.nan
    heatmap, tag = maps(joint_PK2, np.arange(people) * 1.5, size=48, dims=2)
    heatmap += rng.normal(0, 0.02, heatmap.shape).astype(np.float32)
    tag += rng.normal(0, 0.3, tag.shape).astype(np.float32)
    params = GroupingParams(target="floor")
    assert_same(group(heatmap, tag, params, skeleton=FOUR), by_definition(heatmap, tag, params))


# Known answers


@pytest.mark.parametrize(("target", "error"), [("subcell", 1e-4), ("floor", 0.25 + 1e-6)])
def test_encoded_people_come_back(target, error):
    for seed in range(3):
        joint_PK2 = scattered(np.random.default_rng(seed), 4, joints=17, size=64, apart=8)
        joint_PK2[0] = np.floor(joint_PK2[0]) + 0.5 * (target == "subcell")  # halfway between cells
        heatmap, tag = maps(joint_PK2, np.arange(4) * 3, size=64, dims=2)
        found = group(heatmap, tag, GroupingParams(target=target), skeleton=COCO)
        assert np.abs(paired(found.joint_PK2, joint_PK2) - joint_PK2).max() <= error
        assert found.score_P.min() > 0.75


def test_an_empty_image_has_no_people():
    empty = np.zeros((17, 16, 16), dtype=np.float32)
    found = group(empty, np.stack([empty, empty], axis=3), skeleton=COCO)
    shapes = found.joint_PK2.shape, found.score_PK.shape, found.score_P.shape
    assert shapes == ((0, 17, 2), (0, 17), (0,))


def test_thirty_people_are_found_completely_beside_stronger_false_peaks():
    joint_PK2 = scattered(np.random.default_rng(0), 30, joints=17, size=128, apart=6)
    heatmap, tag = maps(joint_PK2, np.arange(30) * 2, size=128, dims=2)
    heatmap[:, 0, ::127], tag[:, 0, ::127] = 1.0, 1000.0
    found_PK2 = group(heatmap, tag, BARE, skeleton=COCO).joint_PK2
    assert len(found_PK2) == 32
    np.testing.assert_allclose(paired(found_PK2[found_PK2[:, 0, 1] > 0], joint_PK2), joint_PK2, atol=1e-4)


def test_a_joint_belongs_to_the_person_of_its_tag_wherever_it_is():
    dot = {(1, 1, 1): (0.9, 0), (1, 7, 7): (0.8, 5), (2, 2, 1): (0.7, 4.8), (2, 6, 7): (0.6, 0.3)}
    found = group(*dots(dot), BARE, skeleton=FOUR)
    assert found.joint_PK2[:, [1, 2]].tolist() == [[[1, 1], [7, 6]], [[7, 7], [1, 2]]]
    assert np.isnan(found.joint_PK2[:, [0, 3]]).all()
    np.testing.assert_allclose(found.score_PK, [[0, 0.9, 0.6, 0], [0, 0.8, 0.7, 0]], rtol=1e-6)
    np.testing.assert_allclose(found.score_P, [1.5 / 4, 1.5 / 4], rtol=1e-6)


@pytest.mark.parametrize(("distance", "people"), [(0.999, 1), (1.001, 2)])
def test_tags_further_apart_than_the_threshold_are_two_people(distance, people):
    heatmap, tag = dots({(1, 1, 1): (0.9, 0), (2, 7, 7): (0.9, distance)})
    assert len(group(heatmap, tag, BARE, skeleton=FOUR)) == people
    two = np.concatenate([tag, tag], axis=3)  # distances are root mean squares over the dimensions
    two[2, 7, 7] = distance * 2**0.5, 0
    assert len(group(heatmap, two, BARE, skeleton=FOUR)) == people


def test_a_person_has_the_mean_tag_of_their_joints():
    nose, eye, hip = {(1, 1, 1): (0.9, 0)}, {(3, 7, 7): (0.9, 0.8)}, {(2, 4, 4): (0.9, 1.3)}
    assert len(group(*dots(nose | eye | hip), BARE, skeleton=FOUR)) == 1  # 1.3 is within 1 of 0.4, not of 0


def test_a_person_who_is_not_there_yet_takes_no_joints_of_others():
    # People at 0, 3 and 6 have noses, one at -3 has none: at the same total cost, each hip could move on to
    # the next nose.
    noses = {(1, 1, 2 * n + 1): (0.9, 3 * n) for n in range(3)}
    hips = {(2, 5, 2 * n + 1): (0.9, 3 * n - 3) for n in range(3)}
    assert len(group(*dots(noses | hips), BARE, skeleton=FOUR)) == 4
    crowd, tags = scattered(np.random.default_rng(0), 20, joints=17, size=96, apart=6), np.arange(20) * 3
    crowd[np.random.default_rng(1).random((20, 17)) < 0.3] = np.nan
    found = group(*maps(crowd, tags, size=96), BARE, skeleton=COCO)
    assert len(found) == 20
    assert (found.score_PK > 0).sum() == np.isfinite(crowd[:, :, 0]).sum()


def test_refinement_takes_the_weak_peak_of_the_persons_own_tag():
    dot = {(1, 1, 1): (0.9, 0), (1, 1, 6): (0.8, 5), (2, 5, 1): (0.05, 0.4), (2, 5, 6): (0.95, 5)}
    bare, found = group(*dots(dot), BARE, skeleton=FOUR), group(*dots(dot), skeleton=FOUR)
    assert found.joint_PK2[:, 2].tolist() == [[6, 5], [1, 5]]
    assert found.score_PK[:, 2].tolist() == pytest.approx([0.95, 0.05])
    np.testing.assert_array_equal(found.score_P, bare.score_P)  # filled-in joints do not count
    assert np.isnan(bare.joint_PK2[1, 2]).all()


@pytest.mark.parametrize(
    ("target", "tag", "place"),
    [("subcell", 0.6, [8, 0]), ("subcell", 5.0, [7, 1]), ("floor", 0.6, [7, 1])],
    ids=["the person's own summit", "somebody else's", "as published"],
)
def test_a_joint_is_filled_in_from_the_summit_if_its_tag_is_the_persons(target, tag, place):
    """In the corner of the map, whose neighbours beyond the border do not count."""
    dot = {(1, 1, 1): (0.9, 0), (2, 0, 8): (0.08, tag), (2, 1, 7): (0.05, 0.4), (2, 1, 6): (0.01, 0.6)}
    found = group(*dots(dot), GroupingParams(target=target), skeleton=FOUR)
    assert np.rint(found.joint_PK2[0, 2]).tolist() == place


def test_more_than_one_counts_as_one_and_makes_no_plateau():
    heatmap, tag = maps(np.full((1, 4, 2), 8.0), np.zeros(1), size=16)
    found = group(3 * heatmap, tag, BARE, skeleton=FOUR)
    assert found.joint_PK2.tolist() == [[[8, 8]] * 4]
    assert found.score_PK.tolist() == [[1] * 4]
    assert found.score_P.tolist() == [1]


def test_a_plateau_is_one_joint_unless_its_tags_differ():
    plateau = {(1, 4, x): (0.9, 0) for x in (3, 4, 5)} | {(1, 5, x): (0.9, 0.5) for x in (4, 5)}
    heatmap, tag = dots(plateau)
    assert group(heatmap, tag, BARE, skeleton=FOUR).joint_PK2[:, 1].tolist() == [[3.5, 4]]
    tag[1, 4, 5] = tag[1, 5, 5] = 7
    assert len(group(heatmap, tag, BARE, skeleton=FOUR)) == 2
    flat = group(np.full((17, 128, 128), 0.5), np.zeros((17, 128, 128, 1)), skeleton=COCO)
    assert flat.joint_PK2.tolist() == [[[0, 0]] * 17]


# Without tags


def test_by_distance_people_who_stand_apart_are_found_and_those_whose_joints_cross_are_not():
    apart = np.array([[[6.0, 20], [8, 4], [8, 12], [8, 6]], [[50, 20], [52, 4], [52, 12], [52, 6]]])
    crossed = apart.copy()
    crossed[:, 0] = apart[::-1, 0]  # each knee beside the other person
    for joint_PK2 in (apart, crossed):
        heatmap, tag = maps(joint_PK2, np.array([0, 5]), size=64)
        by_tags, by_distance = (group(heatmap, tags, BARE, skeleton=FOUR).joint_PK2 for tags in (tag, None))
        np.testing.assert_array_equal(paired(by_tags, joint_PK2), joint_PK2)
        np.testing.assert_array_equal(paired(by_distance, apart), apart)


@pytest.mark.parametrize(("max_distance", "people"), [(0.25, 1), (0.2, 2)])
def test_by_distance_a_joint_beyond_max_distance_starts_a_person(max_distance, people):
    heatmap, _ = dots({(1, 5, 5): (0.9, 0), (2, 5, 14): (0.9, 0)}, size=40)
    assert len(group(heatmap, None, replace(BARE, max_distance=max_distance), skeleton=FOUR)) == people


# Arguments


def test_arguments_are_not_changed_and_may_be_laid_out_either_way_in_memory():
    rng = np.random.default_rng(0)
    heatmap = rng.uniform(0, 1.5, (4, 24, 24)).astype(np.float32)
    tag = rng.normal(0, 3, (4, 24, 24, 2)).astype(np.float32)
    copies = heatmap.copy(), tag.copy()
    found = group(heatmap, tag, skeleton=FOUR)
    np.testing.assert_array_equal(heatmap, copies[0])
    np.testing.assert_array_equal(tag, copies[1])
    tags_first = np.moveaxis(np.ascontiguousarray(np.moveaxis(tag, 3, 0)), 0, 3)
    assert_same(group(heatmap, tags_first, skeleton=FOUR), found)


def test_joints_are_visited_from_the_head_down():
    parts = [COCO.joints[joint].split("_")[-1] for joint in COCO.order]
    assert parts[::2] == ["nose", "eye", "ear", "shoulder", "hip", "elbow", "wrist", "knee", "ankle"]
    assert sorted(MPII.order) == list(range(16))


def test_maps_of_another_number_of_joints_are_refused():
    with pytest.raises(ValueError, match="found 4 heatmaps, expected one for each joint of coco"):
        group(*dots({(1, 1, 1): (0.9, 0)}), skeleton=COCO)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_ten_people_whose_tags_are_exactly_the_threshold_apart_keep_their_joints(noise):
    right = total = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        joint_PK2 = scattered(rng, 10, joints=17, size=128, apart=6)
        heatmap_Khw, tag_KhwT = maps(joint_PK2, rng.permutation(10), size=128)
        tag_KhwT = tag_KhwT + rng.normal(0, noise, tag_KhwT.shape)
        found_PK2 = group(heatmap_Khw, tag_KhwT, skeleton=COCO).joint_PK2
        distance_PPK = np.linalg.norm(found_PK2[:, None] - joint_PK2, axis=3)
        right += (distance_PPK < 0.5).sum(axis=2).max(axis=0).sum()
        total += joint_PK2.shape[0] * joint_PK2.shape[1]
    assert right / total >= 0.99
