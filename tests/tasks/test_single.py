"""The single-person problem: crops of a user's images, decoding, and the people of a prepared file."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers import MPII, user_error

from pose.data.person_set import PersonSet
from pose.data.results import write_results
from pose.keypoints.geometry import invert, to_cell, transform
from pose.keypoints.heatmap import encode
from pose.keypoints.people import People
from pose.params import Params
from pose.tasks.base import TTAOutput
from pose.tasks.single import SingleData, SinglePerson


@pytest.fixture
def problem(params: Params) -> SinglePerson:
    return SinglePerson(params.single.model_copy(update={"loss": "mse"}), MPII)


@pytest.fixture
def data(params: Params, prepared: Path) -> SingleData:
    return SingleData(PersonSet(prepared), params.single, max_val=0)


def test_a_joint_is_decoded_to_its_place_in_the_image_also_from_the_mirrored_one(problem):
    image = np.zeros((120, 90, 3), dtype=np.uint8)
    inputs = problem.preprocess([image, image], [None, (20, 30, 40, 60)], [])
    assert inputs.images[0].shape == (2, 64, 64, 3)
    true_BK2 = np.random.default_rng(0).uniform((25, 40), (55, 85), (2, 16, 2))
    upright, mirrored = [], []
    for affine, joint_K2 in zip(inputs.affine_B23.numpy(), true_BK2, strict=True):
        cell_K2 = to_cell(transform(affine, joint_K2))
        mirrored_K2 = np.column_stack([15 - cell_K2[:, 0], cell_K2[:, 1]])[MPII.flip_index]
        for found, xy in ((upright, cell_K2), (mirrored, mirrored_K2)):
            heatmap_Khw, inside_K = encode(xy, np.ones(16, dtype=bool), size=16, sigma=1.0)
            assert inside_K.all()
            found.append(torch.from_numpy(heatmap_Khw)[None])
    outputs = [TTAOutput(torch.stack(upright)), TTAOutput(torch.stack(mirrored), mirrored=True)]
    for some in (outputs[:1], outputs):
        people = problem.decode(some, inputs.affine_B23)
        assert [len(one) for one in people] == [1, 1]
        np.testing.assert_allclose([one.joint_PK2[0] for one in people], true_BK2, atol=0.02)
        for one in people:
            assert one.score_P[0] == pytest.approx(one.score_PK.mean())


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.25, 2.0])
def test_a_joint_seen_larger_or_smaller_is_decoded_to_the_same_place(problem, scale):
    """From the heatmaps of that scale alone: the others are empty, so that they hide no error."""
    image = np.zeros((120, 90, 3), dtype=np.uint8)
    inputs = problem.preprocess([image], [(20, 30, 40, 60)], [scale])
    assert inputs.zooms == (1.0, scale)
    assert [one.shape for one in inputs.images] == [(1, 64, 64, 3)] * 2
    [affine] = inputs.affine_B23.numpy()
    middle = transform(invert(affine), np.full(2, 31.5))
    true_K2 = middle + np.random.default_rng(0).uniform(-12, 12, (16, 2))
    cell_K2 = 7.5 + scale * (to_cell(transform(affine, true_K2)) - 7.5)
    mirrored_K2 = np.column_stack([15 - cell_K2[:, 0], cell_K2[:, 1]])[MPII.flip_index]
    for xy, mirrored in ((cell_K2, False), (mirrored_K2, True)):
        heatmap_Khw, _ = encode(xy, np.ones(16, dtype=bool), size=16, sigma=1.0)
        output = TTAOutput(torch.from_numpy(heatmap_Khw)[None, None], mirrored, zoom=scale)
        empty = TTAOutput(torch.zeros(1, 1, 16, 16, 16))
        [person] = problem.decode([empty, output], inputs.affine_B23)
        is_seen_K = ((cell_K2 > 0.5) & (cell_K2 < 14.5)).all(axis=1)
        assert is_seen_K.sum() >= 4
        error = np.abs(person.joint_PK2[0] - true_K2)[is_seen_K]
        cells = 0.15 if scale < 1 else 0.05  # a map that is enlarged has linear slopes between cells
        assert error.max() < cells * 60 * problem.params.crop / 16, "px of the image"


def test_a_crop_at_a_further_scale_shows_that_much_more_or_less_around_the_same_middle(problem):
    image = np.zeros((120, 90, 3), dtype=np.uint8)
    image[:, 45:60] = 200  # from the middle of the box a third of the way to its right side
    seen = problem.preprocess([image], [(30, 30, 30, 60)], [0.5, 2.0]).images
    for scale, crop_1HW3 in zip((1, 0.5, 2), seen, strict=True):
        [x] = np.nonzero(crop_1HW3[0, 32, :, 0].numpy() > 100)
        width = scale * 15 * 64 / (60 * problem.params.crop)
        assert abs(x[0] - 31.5) <= 1.5
        assert abs(len(x) - width) <= 1.5


def test_the_mean_over_scales_is_of_those_that_show_a_cell(problem):
    ones = torch.ones(1, 1, 16, 16, 16)
    outputs = [TTAOutput(ones), TTAOutput(3 * ones, zoom=2.0), TTAOutput(ones, zoom=0.5)]
    mean_hw = problem.mean_heatmap(outputs)[0, 0]
    assert torch.allclose(mean_hw[0], torch.ones(16)), "beyond what the larger crop shows"
    assert torch.allclose(mean_hw[8, 4:12], torch.full((8,), 5 / 3))


def test_without_a_box_the_crop_shows_the_whole_image_and_with_one_the_box(problem):
    image = np.zeros((120, 90, 3), dtype=np.uint8)
    whole, boxed = problem.preprocess([image, image], [None, (20, 30, 40, 60)], []).affine_B23.numpy()
    height = transform(whole, np.array([[0, -0.5], [0, 119.5]]))[:, 1]
    np.testing.assert_allclose(height, [-0.5, 63.5])
    height = transform(boxed, np.array([[0, 29.5], [0, 89.5]]))[:, 1]
    np.testing.assert_allclose(np.ptp(height), 64 / problem.params.crop)
    with user_error("box: found 0 x 4 px, expected a width and a height above 0"):
        problem.preprocess([image], [(1, 1, 0, 4)], [])


def test_a_large_image_is_shown_with_all_of_its_pixels(problem):
    """Not every tenth of them: of stripes a px wide the network sees the mean."""
    stripes = np.zeros((960, 960, 3), dtype=np.uint8)
    stripes[:, ::2] = 200
    [seen] = problem.preprocess([stripes], [None], []).images
    assert np.ptp(seen[0, 8:-8, 8:-8].numpy().astype(int)) < 20


def test_one_person_of_a_single_joint_does_not_cost_the_others_their_ap(prepared_coco, params):
    people = PersonSet(prepared_coco)
    data = SingleData(people, params.single, max_val=0)
    rows = data.rows("evaluation")
    people.labelled_NK[rows[0], 1:] = False
    people.scale_N[rows[0]] = 0  # as it is read of one joint
    rows = data.rows("evaluation")
    joint_NK2 = np.nan_to_num(people.joint_NK2[rows])
    found = [People(one[None], np.ones((1, 17)), np.ones(1)) for one in joint_NK2]
    scores = data.score(found, rows)
    assert 0.5 < scores["COCO"]["AP"] < 1
    [truth] = data._truths.values()
    data.score(found, rows)
    assert [*data._truths.values()] == [truth], "read once"


def test_nobody_is_both_trained_on_and_validated_or_evaluated_on(data):
    train, val, evaluation = (set(data.rows(subset)) for subset in ("train", "val", "evaluation"))
    assert train
    assert val < evaluation
    assert not train & evaluation
    few = replace(data, max_val=3)
    assert len(few.rows("val")) == 3
    assert set(few.rows("val")) < val


def test_people_at_their_annotated_joints_score_100_and_are_written_as_they_are(data, tmp_path):
    rows = data.rows("evaluation")
    true_NK2 = np.nan_to_num(data.people.joint_NK2[rows])
    people = [People(joint_K2[None], np.ones((1, 16)), np.ones(1)) for joint_K2 in true_NK2]
    scores = data.score(people, rows)
    assert {*scores["PCKh"].values(), *scores["PCK"].values()} == {100.0}
    assert scores["people"]["all"] == len(rows)
    assert data.missing_metric_reason(rows) == ""
    tables = data.tables(people, rows)
    assert list(tables) == ["accuracy", "joints"]
    write_results(tmp_path / "x.h5", data.results("hgpose", people, rows), "rows")
    with h5py.File(tmp_path / "x.h5") as file:
        assert (file.attrs["task"], file.attrs["skeleton"]) == ("hgpose", "mpii")
        assert [*file.attrs["joints"]] == [*MPII.joints]
        np.testing.assert_array_equal(file["row"], rows)
        np.testing.assert_allclose(file["joint"], true_NK2, rtol=1e-6)
        assert file["score"].shape == (len(rows), 16)


def test_people_without_a_size_of_the_head_or_torso_are_said_to_have_no_metric(data):
    mpii = np.flatnonzero(data.people.source_N == "mpii")
    data.people.head_size_N[:] = np.nan
    assert "have no head size" in data.missing_metric_reason(mpii)
    others = np.flatnonzero(~data.people.mpii_N)
    assert data.missing_metric_reason(others) == ""
    data.people.labelled_NK[:, MPII.index("r_hip")] = False
    assert "have no labelled l_shoulder and r_hip together" in data.missing_metric_reason(others)
