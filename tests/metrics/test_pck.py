"""Known answers: people whose every distance can be counted on fingers."""

from __future__ import annotations

import numpy as np
import pytest

from pose.keypoints.skeleton import MPII, SCORED_JOINTS
from pose.metrics.pck import (
    accuracy_curve,
    cell_accuracy,
    joint_accuracy,
    joint_area,
    normalised_distance,
    per_joint_table,
    single_person_scores,
    torso_length,
)

L_SHOULDER, R_HIP, HEAD_TOP, R_WRIST = (
    MPII.index(name) for name in ("l_shoulder", "r_hip", "head_top", "r_wrist")
)


def people(count: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 500, (count, 16, 2))


def everything(count: int) -> np.ndarray:
    return np.ones((count, 16), dtype=bool)


def scores(predicted, true, labelled=None, *, head=10.0, lsp=False):
    count = len(true)
    return single_person_scores(
        predicted,
        true,
        everything(count) if labelled is None else labelled,
        head_size_N=np.broadcast_to(np.float64(head), count),
        lsp_N=np.full(count, lsp),
    )


def test_perfect_predictions_score_100_everywhere():
    true = people(5)
    found = scores(true, true, lsp=True)
    assert set(found["PCKh"]) == {"0.5", "0.1", "AUC", "0.5 weighted", *MPII.groups}
    assert set(found["PCK"]) == {"0.2", "0.2 weighted", *MPII.groups}
    assert {*found["PCKh"].values(), *found["PCK"].values()} == {100.0}
    assert found["people"] == {
        "all": 5,
        "with head size": 5,
        "without head size": 0,
        "LSP with torso": 5,
        "LSP without torso": 0,
    }


def test_a_joint_exactly_at_the_threshold_is_right_and_one_beyond_is_wrong():
    true = np.zeros((2, 16, 2))
    predicted = true.copy()
    predicted[0, :, 0] = 5.0  # half of a head size of 10
    predicted[1, :, 0] = 5.001
    assert scores(predicted, true)["PCKh"]["0.5"] == 50.0


def test_distances_are_in_the_persons_own_reference_length():
    distance = normalised_distance(
        np.full((2, 1, 2), [3.0, 4.0]), np.zeros((2, 1, 2)), np.ones((2, 1), bool), np.array([10.0, 2.0])
    )
    assert distance.ravel().tolist() == [0.5, 2.5]


def test_nan_and_infinite_predictions_are_wrong_not_missing():
    true = people(4)
    predicted = true.copy()
    predicted[0, R_WRIST] = np.nan
    predicted[1, R_WRIST, 1] = np.nan
    predicted[2, R_WRIST] = np.inf
    found = scores(predicted, true)["PCKh"]
    assert found["Wrist"] == (25 + 100) / 2
    assert found["0.5"] == pytest.approx((13 * 100 + 25) / 14)


def test_pelvis_and_thorax_count_in_no_mean():
    true = people(3)
    predicted = true.copy()
    predicted[:, [MPII.index("pelvis"), MPII.index("thorax")]] = np.nan
    assert scores(predicted, true)["PCKh"]["0.5"] == 100.0
    assert len(SCORED_JOINTS) == 14


def test_head_is_the_head_top_and_the_neck_counts_only_in_the_mean():
    true = people(2)
    predicted = true.copy()
    predicted[:, MPII.index("upper_neck")] += 1000
    found = scores(predicted, true)["PCKh"]
    assert found["Head"] == 100.0
    assert found["0.5"] == pytest.approx(1300 / 14)


def test_the_mean_counts_joints_alike_and_the_weighted_mean_by_their_number():
    true = people(10)
    labelled = everything(10)
    labelled[1:, HEAD_TOP] = False  # one head, predicted wrongly, against ten of every other joint
    predicted = true.copy()
    predicted[:, HEAD_TOP] += 100
    found = scores(predicted, true, labelled)["PCKh"]
    assert found["0.5"] == pytest.approx(1300 / 14)
    assert found["0.5 weighted"] == pytest.approx(100 * 130 / 131)


def test_a_joint_that_nobody_has_is_left_out_of_its_group_and_of_the_mean():
    true = people(3)
    labelled = everything(3)
    labelled[:, [R_WRIST, HEAD_TOP]] = False
    found = scores(true, true, labelled)["PCKh"]
    assert "Head" not in found
    assert found["Wrist"] == found["0.5"] == 100.0


def test_unlabelled_joints_may_be_nan_in_the_truth():
    true = people(2)
    labelled = everything(2)
    labelled[0, 3] = False
    true[0, 3] = np.nan
    assert scores(np.nan_to_num(true), true, labelled)["PCKh"]["0.5"] == 100.0


def test_people_without_a_head_size_are_left_out_of_pckh_and_counted():
    true = people(4)
    predicted = true.copy()
    predicted[1:] += 1000
    found = scores(predicted, true, head=np.array([10.0, np.nan, 0.0, np.nan]))
    assert found["PCKh"]["0.5"] == 100.0
    assert found["people"]["with head size"] == 1
    assert found["people"]["without head size"] == 3


def test_without_any_head_size_the_pckh_table_is_absent():
    true = people(2)
    found = scores(true, true, head=np.nan, lsp=True)
    assert set(found) == {"PCK", "people"}


def test_nobody_at_all_scores_nothing():
    assert set(scores(people(0), people(0))) == {"people"}


def test_the_torso_is_left_shoulder_to_right_hip_of_the_truth():
    true = np.zeros((3, 16, 2))
    true[:, L_SHOULDER] = [30, 40]
    labelled = everything(3)
    labelled[1, R_HIP] = labelled[2, L_SHOULDER] = False
    np.testing.assert_array_equal(torso_length(true, labelled), [50, np.nan, np.nan])


def test_pck_counts_lsp_people_with_a_torso_within_a_fifth_of_it():
    true = np.zeros((4, 16, 2))
    true[:, L_SHOULDER] = [100, 0]
    labelled = everything(4)
    labelled[2, R_HIP] = False  # no torso
    predicted = true.copy()
    predicted[0, :, 1] = 20.0
    predicted[1, :, 1] = 20.1
    predicted[3] += 1000  # not of an LSP set
    found = single_person_scores(
        predicted, true, labelled, head_size_N=np.full(4, np.nan), lsp_N=np.array([True, True, True, False])
    )
    assert found["PCK"]["0.2"] == 50.0
    assert found["people"] == {
        "all": 4,
        "with head size": 0,
        "without head size": 4,
        "LSP with torso": 2,
        "LSP without torso": 1,
    }


def test_a_torso_of_no_length_is_no_reference():
    true = np.zeros((1, 16, 2))
    found = scores(true, true, lsp=True)
    assert "PCK" not in found
    assert found["people"]["LSP without torso"] == 1


def test_area_under_the_curve_is_that_of_steps_at_each_distance():
    distance = np.array([[0.0, 0.25, 0.5, 3.0, np.inf, np.nan], [0.0, 0.125, 0.5, 0.0, np.nan, np.nan]])
    np.testing.assert_allclose(joint_area(distance), [100, 62.5, 0, 50, 0, np.nan])


def test_the_area_agrees_with_the_curve_that_is_written():
    true = people(200)
    predicted = true + np.random.default_rng(1).normal(0, 3, true.shape)
    arguments = {"head_size_N": np.full(200, 10.0), "lsp_N": np.zeros(200, bool)}
    curve = accuracy_curve(predicted, true, everything(200), points=501, **arguments)
    area = np.trapezoid(curve["Mean"], curve["threshold"]) / 0.5
    assert area == pytest.approx(
        single_person_scores(predicted, true, everything(200), **arguments)["PCKh"]["AUC"], abs=0.2
    )


def test_the_curve_ends_in_the_tables_figures_and_never_falls():
    true = people(50)
    predicted = true + np.random.default_rng(2).normal(0, 4, true.shape)
    curve = accuracy_curve(
        predicted, true, everything(50), head_size_N=np.full(50, 10.0), lsp_N=np.zeros(50, bool)
    )
    assert list(curve) == ["threshold", "unit", *MPII.groups, "Mean"]
    assert set(curve["unit"]) == {"head size"}
    table = scores(predicted, true)["PCKh"]
    last, tenth = curve.iloc[-1], curve[curve["threshold"] == 0.1].iloc[0]
    assert (last["threshold"], last["Mean"], last["Knee"]) == (0.5, table["0.5"], table["Knee"])
    assert tenth["Mean"] == table["0.1"]
    assert (curve.drop(columns=["unit"]).diff().dropna() >= 0).all(axis=None)


def test_without_head_sizes_the_curve_is_over_torsos():
    true = people(3)
    curve = accuracy_curve(true, true, everything(3), head_size_N=np.full(3, np.nan), lsp_N=np.ones(3, bool))
    assert set(curve["unit"]) == {"torso"}
    assert set(curve["Mean"]) == {100.0}


def test_the_joint_table_tells_confused_sides_from_lost_joints():
    true = people(8)
    predicted = true.copy()
    predicted[:2] = predicted[:2, MPII.flip_index]  # a quarter of the people facing the wrong way
    predicted[2:4, R_WRIST] += 1000
    table = per_joint_table(
        predicted, true, everything(8), head_size_N=np.full(8, 10.0), lsp_N=np.zeros(8, bool)
    ).set_index("joint")
    assert table.loc["r_wrist", "PCKh@0.5"] == 50.0
    assert table.loc["r_wrist", "sides ignored"] == 75.0
    assert table.loc["l_knee", ["PCKh@0.5", "sides ignored"]].tolist() == [75.0, 100.0]
    assert table.loc["head_top", "PCKh@0.5"] == 100.0
    assert table.loc["l_knee", "group"] == "Knee"
    assert set(table["PCKh people"]) == {8}
    assert "PCK@0.2" not in table


def test_joints_are_counted_where_they_can_be_compared():
    distance = np.array([[0.1, np.nan], [0.9, np.nan], [np.inf, np.nan]])
    np.testing.assert_allclose(joint_accuracy(distance, 0.5), [100 / 3, np.nan])


def test_logged_accuracy_is_the_share_of_peaks_within_half_a_tenth_of_the_map():
    true = np.zeros((1, 16, 2))
    predicted = true.copy()
    predicted[0, :5, 0] = 3.2  # 0.5 * 64 / 10: just right
    predicted[0, 5, 0] = 3.3
    predicted[0, [6, 7, 8, 9, 12, 13]] = 60  # joints that the log leaves out
    assert cell_accuracy(predicted, true, everything(1), 64) == pytest.approx(9 / 10)
    labelled = everything(1)
    labelled[0, 5] = False
    assert cell_accuracy(predicted, true, labelled, 64) == 1.0
    assert np.isnan(cell_accuracy(predicted, true, ~everything(1), 64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"predicted_NK2": np.zeros((2, 14, 2))},
            r"predicted joints: found shape \(2, 14, 2\), expected .* \(3, 16, 2\)",
        ),
        (
            {"true_NK2": np.zeros((3, 16, 3))},
            r"true joints: found shape \(3, 16, 3\), expected \(people, joints, 2\)",
        ),
        (
            {"labelled_NK": np.ones((3, 16))},
            r"labelled: found float64 of shape \(3, 16\), expected bool of shape \(3, 16\)",
        ),
        (
            {"head_size_N": np.ones(2)},
            r"reference lengths: found shape \(2,\), expected one a person: \(3,\)",
        ),
        ({"lsp_N": np.ones(2, bool)}, r"lsp_N: found bool of shape \(2,\), expected bool of shape \(3,\)"),
        ({"true_NK2": np.full((3, 16, 2), np.nan)}, "joint 0 of person 0 is labelled but is"),
        (
            {
                "predicted_NK2": np.zeros((3, 14, 2)),
                "true_NK2": np.zeros((3, 14, 2)),
                "labelled_NK": np.ones((3, 14), bool),
            },
            "found 14 a person, expected the 16 of MPII",
        ),
    ],
)
def test_wrong_arrays_are_refused_naming_what_was_expected(change, message):
    arguments = {
        "predicted_NK2": np.zeros((3, 16, 2)),
        "true_NK2": np.zeros((3, 16, 2)),
        "labelled_NK": everything(3),
        "head_size_N": np.ones(3),
        "lsp_N": np.zeros(3, bool),
    } | change
    with pytest.raises(ValueError, match=message):
        single_person_scores(**arguments)
