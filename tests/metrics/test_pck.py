"""PCKh and PCK: people whose distances can be worked out in the head."""

from typing import Any

import numpy as np
import pytest
from helpers import MPII

from pose.keypoints.skeleton import Skeleton
from pose.metrics.pck import (
    PersonTruth,
    accuracy_curve,
    joint_area,
    normalised_distance,
    per_joint_table,
    reference_length,
    single_person_scores,
)

L_SHOULDER, R_HIP, HEAD_TOP, R_WRIST = map(MPII.index, ("l_shoulder", "r_hip", "head_top", "r_wrist"))


def people(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 500, (count, 16, 2))


def everything(count: int) -> np.ndarray:
    return np.ones((count, 16), dtype=bool)


def truth(
    true: np.ndarray, labelled: np.ndarray | None = None, *, head: Any = 10.0, length: Any = np.nan
) -> PersonTruth:
    count = len(true)
    labelled = everything(count) if labelled is None else labelled
    head_size_N = np.broadcast_to(np.asarray(head, dtype=np.float64), count)
    length_N = np.broadcast_to(np.asarray(length, dtype=np.float64), count)
    return PersonTruth(true, labelled, head_size_N, length_N, MPII)


def scores(predicted: np.ndarray, true: np.ndarray, *args: Any, **kwargs: Any) -> dict[str, dict[str, float]]:
    return single_person_scores(predicted, truth(true, *args, **kwargs))


# Scores


def test_perfect_predictions_score_100_everywhere():
    true = people(5)
    found = scores(true, true, length=10)
    assert set(found["PCKh"]) == {"0.5", "0.1", "AUC", "0.5 weighted", *MPII.groups}
    assert set(found["PCK"]) == {"0.2", "0.2 weighted", *MPII.groups}
    assert {*found["PCKh"].values(), *found["PCK"].values()} == {100.0}
    assert found["people"] == {"all": 5, "with head size": 5, "with reference length": 5}


def test_a_joint_exactly_at_the_threshold_of_its_persons_head_is_right_and_one_beyond_is_wrong():
    true = np.zeros((3, 16, 2))
    predicted = true.copy()
    predicted[0, :, 0] = 5.0  # half of a head size of 10
    predicted[1, :, 0] = 5.001
    predicted[2] = [3.0, 4.0]
    assert scores(predicted, true, head=[10.0, 10.0, 2.0])["PCKh"]["0.5"] == pytest.approx(100 / 3)
    distance = normalised_distance(predicted, true, everything(3), np.array([10.0, 10.0, 2.0]))
    assert distance[:, 0].tolist() == [0.5, pytest.approx(0.5001), 2.5]


def test_nan_and_infinite_predictions_are_wrong_not_missing():
    true = people(4)
    predicted = true.copy()
    predicted[0, R_WRIST] = np.nan
    predicted[1, R_WRIST, 1] = np.nan
    predicted[2, R_WRIST] = np.inf
    found = scores(predicted, true)["PCKh"]
    assert found["Wrist"] == (25 + 100) / 2
    assert found["0.5"] == pytest.approx((13 * 100 + 25) / 14)


@pytest.mark.parametrize(
    ("wrong", "mean", "head"),
    [(("pelvis", "thorax"), 100, 100), (("upper_neck",), 1300 / 14, 100), (("head_top",), 1300 / 14, 0)],
)
def test_pelvis_and_thorax_count_in_no_mean_and_the_head_is_the_head_top(wrong, mean, head):
    true = people(3)
    predicted = true.copy()
    predicted[:, [MPII.index(joint) for joint in wrong]] = np.nan
    found = scores(predicted, true)["PCKh"]
    assert (found["0.5"], found["Head"]) == (pytest.approx(mean), head)


def test_the_mean_counts_joints_alike_and_the_weighted_mean_by_their_number():
    true, labelled = people(10), everything(10)
    labelled[1:, HEAD_TOP] = False  # one head, predicted wrongly, against ten of every other joint
    predicted = true.copy()
    predicted[:, HEAD_TOP] += 100
    found = scores(predicted, true, labelled)["PCKh"]
    assert found["0.5"] == pytest.approx(1300 / 14)
    assert found["0.5 weighted"] == pytest.approx(100 * 130 / 131)


def test_a_joint_that_nobody_has_is_left_out_of_its_group_and_of_the_mean():
    true, labelled = people(3), everything(3)
    labelled[:, [R_WRIST, HEAD_TOP]] = False
    true[:, HEAD_TOP] = np.nan
    found = scores(np.nan_to_num(true), true, labelled)["PCKh"]
    assert "Head" not in found
    assert found["Wrist"] == found["0.5"] == 100.0


def test_people_without_a_head_size_are_left_out_of_pckh_and_counted():
    true = people(4)
    predicted = true.copy()
    predicted[1:] += 1000
    found = scores(predicted, true, head=[10.0, np.nan, 0.0, np.nan])
    assert found["PCKh"]["0.5"] == 100.0
    assert found["people"] == {"all": 4, "with head size": 1, "with reference length": 0}


def test_a_table_of_nobody_is_absent():
    true = people(2)
    assert set(scores(true, true, head=np.nan, length=10)) == {"PCK", "people"}
    assert set(scores(true, true)) == {"PCKh", "people"}
    assert set(scores(people(0), people(0))) == {"people"}


def test_the_reference_length_of_mpii_is_left_shoulder_to_right_hip_and_without_such_joints_the_boxs_side():
    true, labelled = np.zeros((3, 16, 2)), everything(3)
    true[:, L_SHOULDER] = [30, 40]
    labelled[1, R_HIP] = labelled[2, L_SHOULDER] = False
    side_N = np.array([1.0, 2.0, 3.0])
    np.testing.assert_array_equal(reference_length(true, labelled, MPII, side_N), [50, np.nan, np.nan])
    bare = Skeleton.model_validate({"name": "bare", "joints": MPII.joints})
    np.testing.assert_array_equal(reference_length(true, labelled, bare, side_N), side_N)


def test_pck_counts_people_with_a_reference_length_within_a_fifth_of_it():
    true = np.zeros((5, 16, 2))
    predicted = true.copy()
    predicted[0, :, 1] = 20.0
    predicted[1, :, 1] = 20.1
    predicted[2:] += 1000
    found = scores(predicted, true, head=np.nan, length=[100, 100, np.nan, 0, np.nan])
    assert found["PCK"]["0.2"] == 50.0
    assert found["people"] == {"all": 5, "with head size": 0, "with reference length": 2}


# Curves and tables


def test_area_under_the_curve_is_that_of_steps_at_each_distance():
    distance = np.array([[0.0, 0.25, 0.5, 3.0, np.inf, np.nan], [0.0, 0.125, 0.5, 0.0, np.nan, np.nan]])
    np.testing.assert_allclose(joint_area(distance), [100, 62.5, 0, 50, 0, np.nan])


def test_the_curve_never_falls_and_agrees_with_the_scores():
    true = people(200)
    predicted = true + np.random.default_rng(1).normal(0, 3, true.shape)
    curve, table = accuracy_curve(predicted, truth(true)), scores(predicted, true)["PCKh"]
    assert list(curve) == ["threshold", "unit", *MPII.groups, "Mean"]
    assert set(curve["unit"]) == {"head size"}
    last, tenth = curve.iloc[-1], curve[curve["threshold"] == 0.1].iloc[0]
    assert (last["threshold"], last["Mean"], last["Knee"]) == (0.5, table["0.5"], table["Knee"])
    assert tenth["Mean"] == table["0.1"]
    assert (curve.drop(columns=["unit"]).diff().dropna() >= 0).all(axis=None)
    assert np.trapezoid(curve["Mean"], curve["threshold"]) / 0.5 == pytest.approx(table["AUC"], abs=0.2)


def test_without_head_sizes_the_curve_is_over_reference_lengths():
    true = people(3)
    curve = accuracy_curve(true, truth(true, head=np.nan, length=10))
    assert set(curve["unit"]) == {"reference length"}
    assert set(curve["Mean"]) == {100.0}


def test_the_joint_table_tells_confused_sides_from_lost_joints():
    true = people(8)
    predicted = true.copy()
    predicted[:2] = predicted[:2, MPII.flip_index]  # a quarter of the people facing the wrong way
    predicted[2:4, R_WRIST] += 1000
    table = per_joint_table(predicted, truth(true)).set_index("joint")
    assert table.loc["r_wrist", ["PCKh@0.5", "sides ignored"]].tolist() == [50.0, 75.0]
    assert table.loc["l_knee", ["PCKh@0.5", "sides ignored"]].tolist() == [75.0, 100.0]
    assert table.loc["head_top", "PCKh@0.5"] == 100.0
    assert table.loc["l_knee", "group"] == "Knee"
    assert set(table["PCKh people"]) == {8}
    assert "PCK@0.2" not in table
    lsp = per_joint_table(predicted, truth(true, head=np.nan, length=10))
    assert [name for name in lsp if "PCK" in name] == ["PCK@0.2", "PCK people"]


@pytest.mark.parametrize(("unit", "limit"), [({}, 0.5), ({"head": np.nan, "length": 10}, 0.2)])
def test_wrong_joints_are_of_one_kind_each(unit, limit):
    true = people(10)
    given = truth(true, **unit)
    limit *= (given.length_N if unit else given.head_size_N)[0]
    predicted = true.copy()
    predicted[0, R_WRIST] += (1.9 * limit, 0)
    predicted[1, R_WRIST] += (0, 2.1 * limit)
    predicted[2, R_WRIST] = true[2, MPII.index("l_wrist")]
    predicted[3, R_WRIST] = np.nan
    row = per_joint_table(predicted, given).set_index("joint").loc["r_wrist"]
    assert row["PCK@0.2" if unit else "PCKh@0.5"] == 60.0
    assert row[["jitter", "inversion", "miss"]].tolist() == [10.0, 10.0, 20.0]


def test_arrays_of_another_shape_are_refused():
    zeros, truth_of_lsp = np.zeros((3, 16, 2)), np.zeros(3, bool)
    given = PersonTruth(zeros, everything(3), np.ones(3), truth_of_lsp, MPII)
    with pytest.raises(ValueError, match=r"found shapes \[\(2, 14, 2\), .*expected \(N, K, 2\)"):
        single_person_scores(np.zeros((2, 14, 2)), given)
